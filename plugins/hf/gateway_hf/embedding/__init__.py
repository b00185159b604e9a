"""Vectors of texts: encoders, and causal models whose last states stand for a text."""
