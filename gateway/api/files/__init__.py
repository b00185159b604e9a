"""Files: uploaded, listed, read and deleted, each caller's apart."""
