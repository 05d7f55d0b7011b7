"""Moments of SGD on a finite data set of any distribution."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdsim._types import as_matrix
from sgdsim.problems import DatasetRegression
from sgdsim.solver.variance.second_moments import SecondMoments, square

_LARGEST_OPERATOR = 2000  # entries of the symmetric covariance: its operator is this squared


def dataset_moments(problem: DatasetRegression, streaming: bool | None = None) -> SecondMoments:
    r"""Noise of subsets of n examples, at deviation d from the least-squares point, residuals r_i there.

    $$H(S) = \tfrac1n \sum_i D_i S D_i, \qquad G(d) = \tfrac1n \sum_i (D_i d - r_i x_i)(D_i d - r_i x_i)^\top,
      \qquad D_i = x_i x_i^\top - C .$$

    Weight decay changes the Hessian, C + Gamma, and not the noise; fresh label noise adds sigma^2 C / b.
    Either H is one matrix on the p(p+1)/2 entries of S, independent of n, or it streams over the examples in
    O(n p^2); `streaming` None chooses.
    """
    dimension, n = problem.dimension, problem.n_examples
    hessian = problem.gram + as_matrix(problem.weight_decay, dimension)
    curvatures, basis = np.linalg.eigh(hessian)
    features = problem.features @ basis
    gram = basis.T @ problem.gram @ basis
    residuals = problem.targets - problem.features @ problem.least_squares
    size = dimension * (dimension + 1) // 2
    if streaming is None:
        streaming = size > _LARGEST_OPERATOR or dimension**2 > 4 * n
    parts = _streamed(features, residuals, gram) if streaming else _packed(features, residuals, gram)
    rows, columns, respond, inject = parts
    drift = basis.T @ problem.gradient(problem.least_squares)
    additive = problem.label_noise**2 * gram[rows, columns]
    return SecondMoments(
        curvatures, basis, problem.least_squares, drift, rows, columns, respond, inject, additive
    )


def _packed(features: np.ndarray, residuals: np.ndarray, gram: np.ndarray) -> tuple[Any, ...]:
    """H as a matrix on the upper triangle of S, and G from it: sum r_i x_i = 0 leaves three terms."""
    n, dimension = features.shape
    i, j = np.triu_indices(dimension)
    twice = np.where(i == j, 1.0, 2.0)
    products = features[:, i] * features[:, j]
    fourth = products.T @ products / n
    swapped = gram[np.ix_(i, i)] * gram[np.ix_(j, j)] + gram[np.ix_(i, j)] * gram[np.ix_(j, i)]
    operator = (fourth - swapped / 2) * twice
    # one-point laws such as x = +-1 have no noise at all: rounding must not invent some
    operator[np.abs(operator) <= 8 * np.finfo(float).eps * np.abs(fourth).max()] = 0.0
    operator = np.ascontiguousarray(operator.T)
    cross = -2 * (products.T * residuals) @ features / n
    fixed = products.T @ residuals**2 / n

    def inject(d: Any) -> Any:
        return (d[i] * d[j]) @ operator + cross @ d + fixed

    return i, j, lambda v: v @ operator, inject


def _streamed(features: np.ndarray, residuals: np.ndarray, gram: np.ndarray) -> tuple[Any, ...]:
    """H(S) = X' diag(x_i' S x_i) X / n - C S C, one pass over the examples."""
    n, dimension = features.shape
    rows, columns = square(dimension)

    def respond(v: Any) -> Any:
        flat = v.reshape(-1, dimension, dimension)
        spread = [(features * np.sum((features @ s) * features, axis=1)[:, None]).T @ features / n for s in flat]
        return (np.stack(spread) - gram @ flat @ gram).reshape(v.shape)

    def inject(d: Any) -> Any:
        errors = features @ d - residuals
        mean = gram @ d
        return ((features * errors[:, None] ** 2).T @ features / n - np.outer(mean, mean)).ravel()

    return rows, columns, respond, inject
