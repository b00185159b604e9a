"""The models: list, show, load, unload."""
