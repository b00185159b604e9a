"""Which sequences run, and what a step computes: ints only, no tensors."""
