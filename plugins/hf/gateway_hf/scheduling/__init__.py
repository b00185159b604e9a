"""Who runs, and what is computed in a step: ints only, no tensors."""
