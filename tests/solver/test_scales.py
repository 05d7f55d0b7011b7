"""Columns of very different scale: every number keeps the digits of its own scale, or is refused."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.solver.linear_algebra.graded import graded_eigh

RNG = np.random.default_rng(7)


def fractions(array):
    return np.vectorize(Fraction, otypes=[object])(np.asarray(array, float))


def solve(matrix, values):
    """Gauss and Jordan's elimination in fractions."""
    rows = np.column_stack([matrix, values])
    for i in range(len(rows)):
        pivot = i + int(np.argmax(np.abs(rows[i:, i])))
        rows[[i, pivot]] = rows[[pivot, i]]
        rows[i] = rows[i] / rows[i, i]
        for j in range(len(rows)):
            if j != i:
                rows[j] = rows[j] - rows[j, i] * rows[i]
    return rows[:, -1]


def exact_covariance(x, y, rate, b):
    """The stationary covariance with replacement, from its D^2 linear equations in fractions."""
    x, y, rate = fractions(x), fractions(y), Fraction(rate)
    n, dimension = x.shape
    hessian = x.T @ x / n
    residuals = x @ solve(hessian, x.T @ y / n) - y
    eye, step = fractions(np.eye(dimension)), fractions(np.eye(dimension)) - rate * hessian
    system, noise = np.kron(eye, eye) - np.kron(step, step), fractions(np.zeros(dimension**2))
    for row, residual in zip(x, residuals, strict=True):
        change = np.outer(row, row) - hessian
        system = system - rate**2 / n / b * np.kron(change, change)
        noise = noise + rate**2 / n / b * residual**2 * np.outer(row, row).ravel()
    return solve(system, noise).reshape(dimension, dimension).astype(float)


@pytest.mark.parametrize("exponents", [(0, 0, 0), (5, 0, -5), (7, 0, 1), (12, 0, -12), (-9, 9, 0)])
def test_the_stationary_law_of_a_table_in_any_units(exponents):
    x, y = RNG.normal(size=(8, 3)) * 10.0 ** np.array(exponents), RNG.normal(size=8)
    rate = 0.2 * 8 / float(np.sum(x**2))
    theory = ss.predict(ss.DatasetRegression(x, y), ss.SGD(rate), batch_size=4)
    np.testing.assert_allclose(theory.covariance, exact_covariance(x, y, rate, 4), rtol=1e-11)


def test_the_variance_of_an_intercept():
    """[1e7 x, 1]: the intercept hardly moves, but its variance is not rounding."""
    x, y = np.column_stack([1e7 * RNG.normal(size=20), np.ones(20)]), RNG.normal(size=20)
    rate = 0.1 / float(np.linalg.eigvalsh(x.T @ x / 20)[-1])
    theory = ss.predict(ss.DatasetRegression(x, y), ss.SGD(rate), batch_size=4)
    np.testing.assert_allclose(theory.covariance, exact_covariance(x, y, rate, 4), rtol=1e-11)


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e12])
def test_an_offset_of_the_targets_is_no_perfect_fit(offset):
    x, noise = np.column_stack([RNG.normal(size=10), np.ones(10)]), RNG.normal(size=10)
    rate = 0.1
    plain, moved = (ss.predict(ss.DatasetRegression(x, noise + c), ss.SGD(rate), batch_size=4).covariance
                    for c in (0.0, offset))
    np.testing.assert_allclose(moved, plain, rtol=1e-12 + 1e-15 * offset)


def enumerated_variance(x, y, rate, steps, start):
    """Var g_t at b = 1 with replacement, over all n^t runs, in fractions."""
    x, y, rate = fractions(x), fractions(y), Fraction(rate)
    points, found = fractions(start)[None], []
    for _ in range(steps):
        gradients = (points @ x.T - y)[:, :, None] * x[None]
        flat = gradients.reshape(-1, x.shape[1])
        mean = flat.sum(axis=0) / len(flat)
        found.append(float(((flat - mean) ** 2).sum() / len(flat)))
        points = (points[:, None] - rate * gradients).reshape(-1, x.shape[1])
    return found


@pytest.mark.parametrize("seed", range(12))
def test_the_variance_of_the_gradient_in_any_units(seed):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-8, 9, size=3)
    x, y = rng.normal(size=(5, 3)) * scale, rng.normal(size=5)
    rate, start = 0.3 * 5 / float(np.sum(x**2)), rng.normal(size=3) / scale
    problem = ss.DatasetRegression(x, y)
    found = ss.solver.gradient_variance(problem, ss.SGD(rate), batch_size=[1], steps=4, initial=start)
    np.testing.assert_allclose(found.gradient[:, 0], enumerated_variance(x, y, rate, 4, start), rtol=1e-10)


@pytest.mark.parametrize("problem", ["table", "population"])
@pytest.mark.parametrize("seed", range(6))
def test_answers_are_equivariant(problem, seed):
    """In other units of the features everything is the same: w -> w / s, the rate -> rate / s^2."""
    rng = np.random.default_rng(seed)
    s = 10.0 ** rng.integers(-12, 13)
    x, y = rng.normal(size=(9, 3)), rng.normal(size=9)
    root = rng.normal(size=(3, 3))
    covariance = root @ root.T + np.eye(3)

    def law(units):
        if problem == "table":
            described = ss.DatasetRegression(x * units, y)
        else:
            described = ss.LinearRegression(covariance * units**2, np.array([1.0, -1.0, 0.5]) / units, 0.5)
        theory = ss.predict(described, ss.SGD(0.02 / units**2), batch_size=3)
        moving = ss.solver.gradient_variance(described, ss.SGD(0.02 / units**2), batch_size=[3], steps=4)
        return theory.covariance * units**2, theory.train_loss, theory.test_loss, moving.gradient / units**2

    for plain, scaled in zip(law(1.0), law(s), strict=True):
        np.testing.assert_allclose(scaled, plain, rtol=1e-9)


def test_eigenvalues_keep_their_own_digits():
    scale = np.array([1e9, 1.0, 1e-7])
    matrix = np.array([[1.0, 0.5, 0.2], [0.5, 1.0, 0.3], [0.2, 0.3, 1.0]]) * np.outer(scale, scale)
    values, vectors = graded_eigh(matrix)
    a = fractions(matrix)
    determinant = sum(a[0, i] * (a[1, (i + 1) % 3] * a[2, (i + 2) % 3] - a[1, (i + 2) % 3] * a[2, (i + 1) % 3])
                      for i in range(3))
    minors = a[0, 0] * a[1, 1] - a[0, 1] ** 2 + a[0, 0] * a[2, 2] - a[0, 2] ** 2 + a[1, 1] * a[2, 2] - a[1, 2] ** 2
    assert values.prod() == pytest.approx(float(determinant), rel=1e-13)
    assert values[0] == pytest.approx(float(determinant / minors), rel=1e-13)  # the others are far larger
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-14)


def test_collinear_columns_of_different_scale_are_refused():
    x = RNG.normal(size=(9, 2))
    problem = ss.DatasetRegression(np.column_stack([1e8 * x[:, 0], x[:, 1], x[:, 1]]), RNG.normal(size=9))
    with pytest.raises(ValueError, match="standardize the columns"):
        ss.predict(problem, ss.SGD(1e-17), batch_size=2)
