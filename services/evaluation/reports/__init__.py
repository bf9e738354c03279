"""What a reader of an experiment sees: figures, contact sheets and one page that stands alone.

Knows results and images as arrays; knows no web, database, queue or store.
"""
