"""Regression on a finite data set of any distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sgdsim._types import Matrix, Vector, as_matrix
from sgdsim.problems import DatasetRegression
from sgdsim.problems.parts.fourth_moments import FourthMoments
from sgdsim.solver.laws.law import QuadraticLaw
from sgdsim.solver.laws.second_moments import SecondMoments, square
from sgdsim.solver.linear_algebra.graded import graded_eigh
from sgdsim.solver.noise.factor import NoiseFactor
from sgdsim.solver.noise.subset import SubsetNoise

_ROUNDING = 64  # machine epsilons of its own terms that a residual of an exact fit may show
_BLOCK = 2**20  # numbers of products of features held at once
_LARGEST_OPERATOR = 2000  # entries of the symmetric covariance: its operator is this squared


class FiniteRegression(QuadraticLaw[DatasetRegression]):
    """Rows x_i of the data, drawn with or without replacement."""

    exact = "exact for this data set", "stationary.md section 7, equations [99, 108] in [3]"

    def averaged_noise(self, mean: Vector, batch_size: int, factor: NoiseFactor) -> SubsetNoise:
        """From the residuals at the mean."""
        problem = self.problem
        residuals = problem.features @ mean - problem.targets
        terms = np.abs(problem.features) @ np.abs(mean) + np.abs(problem.targets)
        if np.all(np.abs(residuals) <= _ROUNDING * np.finfo(float).eps * terms):  # the model fits every example
            residuals = np.zeros_like(residuals)
        return SubsetNoise(problem.features, residuals, float(problem.label_noise), batch_size, factor,
                           problem.noise, problem.fourth_moments)

    def hessian_noise(self, mean: Vector, batch_size: int, factor: NoiseFactor) -> Matrix:
        """(f mean(r^2) + sigma^2 / b) A^."""
        noise = self.averaged_noise(mean, batch_size, factor)
        level = noise.thinning * np.mean(noise.residuals**2) + noise.label_noise**2 / batch_size
        return level * noise.data_hessian

    @property
    def test_hessian(self) -> Matrix:
        """A^, without weight decay."""
        return self.problem.gram

    @property
    def noise_floor(self) -> float:
        """sigma^2 / 2."""
        return float(self.problem.label_noise) ** 2 / 2

    def moments(self, whole: bool = False, streaming: bool | None = None) -> SecondMoments:
        r"""Noise of subsets of n examples, at deviation d from the least-squares point, residuals r_i there.

        $$H(S) = \tfrac1n \sum_i D_i S D_i, \qquad G(d) = \tfrac1n \sum_i (D_i d - r_i x_i)(D_i d - r_i x_i)^\top,
          \qquad D_i = x_i x_i^\top - C .$$

        Weight decay changes the Hessian, C + Gamma, and not the noise; fresh label noise adds sigma^2 C / b.
        Either H is one matrix on the p(p+1)/2 entries of S, independent of n, or it streams over the examples in
        O(n p^2); `streaming` None chooses. V is kept whole in any case.
        """
        problem = self.problem
        dimension, n = problem.dimension, problem.n_examples
        hessian = problem.gram + as_matrix(problem.weight_decay, dimension)
        curvatures, basis = graded_eigh(hessian)
        features = problem.features @ basis
        gram = features.T @ features / n
        residuals = problem.targets - problem.features @ problem.least_squares
        if streaming is None:
            streaming = dimension * (dimension + 1) // 2 > _LARGEST_OPERATOR or dimension**2 > 4 * n
        noise = _streamed(features, residuals, gram) if streaming else _packed(features, residuals, gram)
        drift = basis.T @ problem.gradient(problem.least_squares)
        additive = problem.label_noise**2 * gram[noise.rows, noise.columns]
        return SecondMoments(curvatures, basis, problem.least_squares, drift, *noise, additive)


class _Noise(NamedTuple):
    """Which entries of S are kept, and H and G on them."""

    rows: np.ndarray
    columns: np.ndarray
    respond: Callable[[np.ndarray], np.ndarray]
    inject: Callable[[Vector], np.ndarray]


def _packed(features: np.ndarray, residuals: np.ndarray, gram: np.ndarray) -> _Noise:
    """H as a matrix on the upper triangle of S, and G from it: sum r_i x_i = 0 leaves three terms."""
    n, dimension = features.shape
    i, j = np.triu_indices(dimension)
    terms = np.zeros((len(i), len(i)))
    cross, fixed = np.zeros((len(i), dimension)), np.zeros(len(i))
    rows = max(1, _BLOCK // len(i))
    for first in range(0, n, rows):  # products of all examples would fill n p^2 / 2 numbers
        x, r = features[first : first + rows], residuals[first : first + rows]
        products = x[:, i] * x[:, j]
        terms += np.abs(products).T @ np.abs(products) / n
        cross -= 2 * (products.T * r) @ x / n
        fixed += products.T @ r**2 / n
    swapped = gram[np.ix_(i, i)] * gram[np.ix_(j, j)] + gram[np.ix_(i, j)] * gram[np.ix_(j, i)]
    operator = FourthMoments(features).table() - swapped / 2
    # One-point laws such as x = +-1 have no noise at all: rounding must not invent some. Each entry by its own terms,
    # since columns may be of very different scale.
    operator[np.abs(operator) <= 8 * np.finfo(float).eps * terms] = 0.0
    operator = np.ascontiguousarray((operator * np.where(i == j, 1.0, 2.0)).T)

    def inject(d: Vector) -> np.ndarray:
        return (d[i] * d[j]) @ operator + cross @ d + fixed

    return _Noise(i, j, lambda v: v @ operator, inject)


def _streamed(features: np.ndarray, residuals: np.ndarray, gram: np.ndarray) -> _Noise:
    """H(S) = X' diag(x_i' S x_i) X / n - C S C, one pass over the examples."""
    n, dimension = features.shape
    rows, columns = square(dimension)
    fourth = FourthMoments(features)

    def respond(v: np.ndarray) -> np.ndarray:
        flat = v.reshape(-1, dimension, dimension)
        return (fourth.of(flat) - gram @ flat @ gram).reshape(v.shape)

    def inject(d: Vector) -> np.ndarray:
        errors = features @ d - residuals
        mean = gram @ d
        return ((features * errors[:, None] ** 2).T @ features / n - np.outer(mean, mean)).ravel()

    return _Noise(rows, columns, respond, inject)
