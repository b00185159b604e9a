"""Hold answers to a schema, a regex, a choice or a grammar: compile it, mask what may follow, check what was said."""
