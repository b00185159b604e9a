"""Scores of pairs and classes of texts: cross-encoders, and causal models that answer yes or no."""
