"""Other servers beside this one: the same load on the same weights, by turns."""
