"""Adam under mini-batch noise: bias, covariance, digits."""
