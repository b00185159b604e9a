"""One request in any dialect: its body in, its answer out, whole or streamed."""
