"""Every causal type that the installed transformers knows, tiny and random, against its own `generate()`."""
