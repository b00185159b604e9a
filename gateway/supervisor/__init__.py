"""The main process, and its protocol with the worker."""
