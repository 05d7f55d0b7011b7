"""Shuffled epochs: the batches of one pass depend on each other."""
