"""The run itself: compiled segments, sums merged on the host, what comes out."""
