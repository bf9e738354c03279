"""Files that people send, as arrays: every fault is named by its column and line.

Identifiers are never quoted. Knows no web, database or queue.
"""
