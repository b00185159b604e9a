"""Hours of a service in minutes: everything at once, and what is left of it."""
