"""Pictures of a dataset. Knows pixels and words; no database, store or web."""
