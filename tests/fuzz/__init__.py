"""Inputs of which no one has thought, at every endpoint."""
