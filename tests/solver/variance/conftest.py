"""What these tests share: a real table, a toy one, and expectations over every sequence of batches."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

import sgdsim as ss


def every_sequence(problem, rates, w0, b, sampling, sigma=0.0):
    """Var g_t, Var of the full gradient, E L after each step but the last: all batches, all signs of the noise.

    Label noise of standard deviation sigma is replaced by +-sigma: variances see its second moment only.
    """
    x, y = problem.features, problem.targets
    n, dimension = x.shape
    gamma = problem.weight_decay if problem.weight_decay.ndim == 2 else problem.weight_decay * np.eye(dimension)
    again = sampling == "with_replacement"
    drawn = itertools.product(range(n), repeat=b) if again else itertools.combinations(range(n), b)
    batches = [list(batch) for batch in drawn]
    signs = list(itertools.product((-sigma, sigma), repeat=b)) if sigma else [(0.0,) * b]
    weights, rows = [np.array(w0, float)], []
    for rate in rates:
        gradients = [
            x[batch].T @ (x[batch] @ w - y[batch] - np.array(sign)) / b + gamma @ w
            for w in weights for batch in batches for sign in signs
        ]  # fmt: skip
        full = [x.T @ (x @ w - y) / n + gamma @ w for w in weights]
        loss = [np.mean((x @ w - y) ** 2) / 2 + sigma**2 / 2 + w @ gamma @ w / 2 for w in weights]
        rows.append((np.var(gradients, axis=0).sum(), np.var(full, axis=0).sum(), np.mean(loss)))
        each = len(batches) * len(signs)
        weights = [weights[k // each] - rate * gradient for k, gradient in enumerate(gradients)]
    return np.array(rows)


@pytest.fixture(scope="session")
def sequences():
    return every_sequence


@pytest.fixture(scope="session")
def diabetes():
    """Standardised features and target, intercept last: n = 442, p = 11."""
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_diabetes(return_X_y=True)
    x, y = (x - x.mean(axis=0)) / x.std(axis=0), (y - y.mean()) / y.std()
    return ss.DatasetRegression(np.column_stack([x, np.ones(len(x))]), y)


@pytest.fixture(scope="session")
def toy():
    """Six points on a line."""
    x = np.column_stack([np.ones(6), [0.0, 1.0, 2.0, -1.0, 3.0, -2.0]])
    return ss.DatasetRegression(x, [1.0, 0.0, 2.0, -1.0, 1.0, 3.0])


@pytest.fixture(scope="session")
def networks():
    """The networks of the theory sheet with their starts; the learning rate is 0.1."""
    square = ss.TwoLayerLinear([[1.0, 0.0], [0.0, -1.0]], np.eye(2))
    # T = (0.5, 1, -1) through two hidden units
    wide = ss.TwoLayerLinear([[0.5, 1.0, -1.0], [0.0, 0.0, 0.0]], [[1.0, 0.0]])
    scalar = ss.TwoLayerLinear([[1.0]], [[2.0]])
    return SimpleNamespace(
        square=(square, ([[1.0, 0.5], [-0.5, 1.0]], [[0.5, -1.0], [1.0, 0.5]])),
        wide=(wide, ([[1.0, 0.0, 0.5], [0.0, -1.0, 0.5]], [[1.0, 0.5]])),
        scalar=(scalar, ([[1.0]], [[0.5]])),
    )
