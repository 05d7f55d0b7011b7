"""The covariance of a minibatch gradient, from the data law alone."""
