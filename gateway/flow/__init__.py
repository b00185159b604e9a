"""What bounds, times, merges and ends streams; it knows no request."""
