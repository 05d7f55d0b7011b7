"""Label noise and implicit regularization."""
