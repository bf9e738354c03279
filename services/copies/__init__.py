"""Near copies of pictures: what one is like, where the likest lies, and how like is too like.

For every service that compares sets of pictures. Knows arrays; no service, no store, no row.
"""
