"""The least l1 norm against every vertex, and by duality."""

import itertools

import numpy as np
import pytest

from sgdsim.solver.manifold import basis_pursuit


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_best_of_all_vertices(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((3, 7)), rng.standard_normal(3)
    w = basis_pursuit(x, y)
    np.testing.assert_allclose(x @ w, y, atol=1e-10)
    corners = [np.linalg.solve(x[:, list(s)], y) for s in itertools.combinations(range(7), 3)]
    assert np.abs(w).sum() == pytest.approx(min(np.abs(c).sum() for c in corners), rel=1e-10)
    assert (np.abs(w) > 1e-10).sum() <= 3


def test_a_sparse_teacher_comes_back_from_examples_enough():
    rng = np.random.default_rng(4)
    x, teacher = rng.choice([-1.0, 1.0], (40, 100)), np.zeros(100)
    teacher[[3, 50, 71]] = 1.0, -1.0, 0.5
    np.testing.assert_allclose(basis_pursuit(x, x @ teacher), teacher, atol=1e-9)
    few = basis_pursuit(x[:5], x[:5] @ teacher)
    assert np.abs(few).sum() <= 2.5 + 1e-9 and np.sum((few - teacher) ** 2) > 0.1


@pytest.mark.parametrize(("x", "y", "says"), [
    ([[1.0], [1.0]], [1.0, 2.0], "targets"),
    ([1.0, 2.0], [1.0], "features"),
    ([[1.0]], [1.0, 2.0], "targets"),
    ([[np.nan]], [1.0], "features"),
])
def test_bad_input(x, y, says):
    with pytest.raises(ValueError, match=says):
        basis_pursuit(x, y)
