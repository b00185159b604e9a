"""One forward pass over a batch."""
