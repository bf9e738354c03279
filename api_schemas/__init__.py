"""The wire: every type that crosses a wall, declared once.

Knows pydantic, httpx2 and pyarrow. Does not know any service, database or queue.
"""

VERSION = "0.1.0"
