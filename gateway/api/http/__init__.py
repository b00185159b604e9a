"""Bytes and headers: what every route needs, whatever its dialect."""
