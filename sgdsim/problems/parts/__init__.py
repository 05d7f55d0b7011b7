"""What several problems are made of: example losses, layers, modules of flax, residuals."""
