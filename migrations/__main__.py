"""`python -m migrations`: upgrade all schemas. `python -m migrations check`: compare only."""

import sys

from migrations.sections import check, upgrade

if __name__ == "__main__":
    check() if sys.argv[1:] == ["check"] else upgrade()
