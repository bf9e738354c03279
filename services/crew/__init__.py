"""Processes that train together, one a GPU, beside the worker that started them.

For every service that trains. Knows processes and how they meet; nothing of what they learn.
"""
