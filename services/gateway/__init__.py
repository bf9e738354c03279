"""Composition root of one machine: every router in one web process, and the control worker."""
