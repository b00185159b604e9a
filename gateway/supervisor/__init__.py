"""The main process, and what the worker says to it."""
