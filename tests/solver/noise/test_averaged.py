import numpy as np
import pytest

from sgdsim.problems import DatasetRegression
from sgdsim.solver import gradient_covariance
from sgdsim.solver.laws import law_of
from sgdsim.solver.noise.factor import factor_of

RNG = np.random.default_rng(5)
X, Y, W = RNG.normal(size=(5, 2)), RNG.normal(size=5), np.array([0.4, -1.0])


@pytest.mark.parametrize("mode", ["with_replacement", "without_replacement"])
def test_averages_over_the_spread(mode):
    problem = DatasetRegression(X, Y, label_noise=0.2)
    noise = law_of(problem).averaged_noise(W, 2, factor_of(problem, mode))
    root = RNG.normal(size=(2, 2))
    points = [W + s * np.sqrt(2) * column for column in root.T for s in (1, -1)]  # covariance root root'
    exact = np.mean([gradient_covariance(problem, p, 2, mode) for p in points], axis=0)
    np.testing.assert_allclose(noise.additive + noise.linear(root @ root.T), exact, rtol=1e-12)
    stack = np.stack([np.eye(2), root @ root.T])
    np.testing.assert_allclose(noise.linear(stack)[1], noise.linear(stack[1]), rtol=1e-13)
