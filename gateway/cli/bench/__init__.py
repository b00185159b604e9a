"""A load generator for any server that speaks OpenAI's dialect or the gateway's own; it imports nothing of the rest."""
