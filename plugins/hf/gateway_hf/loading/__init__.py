"""From a model's name to a checked model in memory."""
