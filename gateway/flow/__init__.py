"""Streams bounded, timed, merged and ended; nothing here knows a request."""
