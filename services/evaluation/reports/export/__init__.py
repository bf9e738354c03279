"""What a dataset or cohort looks like outside: CSV, archives, a description.

Knows manifests and bytes; no database, store or web.
"""
