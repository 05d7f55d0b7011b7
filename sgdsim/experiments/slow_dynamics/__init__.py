"""Slow dynamics of adaptive optimizers along minima."""
