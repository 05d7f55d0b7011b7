"""The impact of the mini-batch size on the variance of gradients."""
