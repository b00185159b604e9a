"""Batches: many requests in one file, answered while no client waits, each line once."""
