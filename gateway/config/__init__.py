"""The configuration: its schema, its layers, and how they are read."""
