"""Health, metrics and the requests under way."""
