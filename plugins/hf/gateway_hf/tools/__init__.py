"""Calls of tools and thoughts: recognised from the chat template, asked for by a grammar, read from what is written."""
