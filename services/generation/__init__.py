"""Generators are trained, synthetic patients made to order. Knows datasets by their manifests."""
