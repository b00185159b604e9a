"""The clients that people's programs use, against the real service: `just clients`."""
