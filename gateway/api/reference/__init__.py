"""How the documentation describes the routes."""
