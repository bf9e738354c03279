"""One script a claim in the docs. They print; they assert nothing about time."""
