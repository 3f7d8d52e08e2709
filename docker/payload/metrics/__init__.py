"""Metrics that `evaluate.load` finds without a hub: each file is one, and is copied into the cache of modules."""
