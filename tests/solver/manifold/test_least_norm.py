"""Least l_p norms against every vertex or a general minimiser; nuclear norms against a search, and a teacher."""

import itertools

import numpy as np
import pytest
import scipy

from sgdsim.solver.manifold import basis_pursuit, least_norm, least_nuclear_norm

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(4, 7)), RNG.normal(size=4)


@pytest.mark.parametrize("p", [0.5, 0.75])
def test_below_one_it_is_the_best_vertex(p):
    w = least_norm(X, Y, p=p)
    vertices = [np.linalg.solve(X[:, list(s)], Y) for s in itertools.combinations(range(7), 4)]
    np.testing.assert_allclose(X @ w, Y, atol=1e-12)
    assert np.sum(np.abs(w) ** p) == pytest.approx(min(np.sum(np.abs(c) ** p) for c in vertices), rel=1e-5)


@pytest.mark.parametrize("p", [1.2, 1.5, 2.0])
def test_above_one_it_is_the_minimum(p):
    w, null = least_norm(X, Y, p=p), scipy.linalg.null_space(X)
    np.testing.assert_allclose(X @ w, Y, atol=1e-12)
    assert np.abs(null.T @ (np.sign(w) * np.abs(w) ** (p - 1))).max() < 1e-6  # stationary, and convex
    assert np.abs(null.T @ (np.sign(w) * np.abs(w) ** (1.03 * p - 1))).max() > 1e-3 or p == 2.0


def test_one_is_basis_pursuit():
    np.testing.assert_array_equal(least_norm(X, Y), basis_pursuit(X, Y))
    np.testing.assert_allclose(least_norm(X, 0 * Y, p=0.5), 0.0)


def test_nuclear_norm():
    a, y = RNG.normal(size=(3, 2, 2)), RNG.normal(size=3)
    w, null = least_nuclear_norm(a, y), scipy.linalg.null_space(a.reshape(3, 4)).reshape(2, 2)
    np.testing.assert_allclose(np.tensordot(a, w, 2), y, atol=1e-12)
    around = [np.linalg.svd(w + s * null, compute_uv=False).sum() for s in np.linspace(-3, 3, 2001)]
    assert np.linalg.svd(w, compute_uv=False).sum() <= min(around) * (1 + 1e-6)
    teacher = np.outer(RNG.normal(size=6), RNG.normal(size=5))
    many = RNG.normal(size=(22, 6, 5))  # 10 degrees of freedom
    np.testing.assert_allclose(least_nuclear_norm(many, np.tensordot(many, teacher, 2)), teacher, atol=1e-4)
    few = least_nuclear_norm(many[:9], np.tensordot(many[:9], teacher, 2))
    assert np.abs(few - teacher).max() > 0.1


@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1e6, 1e12])
def test_an_equation_has_no_unit_of_its_own(unit):
    """One example in other units: least squares would leave the smaller ones out."""
    units = np.array([1.0, unit, 1.0, 1.0])
    for p in (0.5, 1.0, 1.5, 2.0):
        moved = least_norm(units[:, None] * X, units * Y, p=p)
        np.testing.assert_allclose(moved, least_norm(X, Y, p=p), rtol=1e-9, atol=1e-12)
    a = X[:, :6].reshape(4, 3, 2)
    nuclear = least_nuclear_norm(units[:, None, None] * a, units * Y)
    np.testing.assert_allclose(nuclear, least_nuclear_norm(a, Y), atol=1e-9)
    for function in (lambda x, y: least_norm(x, y, p=0.5), basis_pursuit):
        with pytest.raises(ValueError, match=r"targets.*fitted exactly"):
            function([[1.0], [unit]], [1.0, 2 * unit])


@pytest.mark.parametrize(("call", "says"), [
    (lambda: least_norm(X, Y, p=0.0), "p is"),
    (lambda: least_norm(X, Y, p=2.5), r"in \(0, 2\]"),
    (lambda: least_norm([[1.0], [1.0]], [1.0, 2.0], p=0.5), "targets"),
    (lambda: least_nuclear_norm(X, Y), "features"),
    (lambda: least_nuclear_norm([[[1.0]], [[1.0]]], [1.0, 2.0]), "targets"),
])
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()
