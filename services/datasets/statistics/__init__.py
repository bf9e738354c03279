"""Pure functions over manifests as polars frames: choosing, splitting, counting.

Knows no database, store or web.
"""
