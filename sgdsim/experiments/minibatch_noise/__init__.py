"""Strength of minibatch noise in SGD: its figures and tables."""
