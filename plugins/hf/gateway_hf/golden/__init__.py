"""Golden prompts: what a model said of a few texts once, and how far it is from that now."""
