"""Between prompts and tokens, tokens and text."""
