"""The variance of minibatch gradients step by step, for many batch sizes at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import own_settings
from sgdsim._types import Vector
from sgdsim.optimizers.base import Optimizer
from sgdsim.problems.base import Problem
from sgdsim.solver.laws.law import QuadraticLaw
from sgdsim.solver.laws.second_moments import SecondMoments
from sgdsim.solver.laws.table import quadratic_law_of
from sgdsim.solver.noise.factor import factor_of
from sgdsim.solver.variance.arguments import batch_sizes_of, learning_rates, start_of


@dataclasses.dataclass(frozen=True, eq=False)
class GradientVariance:
    """Exact expectations over all runs from one start; row t is the state after t updates, row 0 the start.

    Attributes:
        gradient: Var g_t = E||g_t||^2 - ||E g_t||^2 of the batch gradient, (steps, batch sizes).
        full_gradient: Var of the gradient of the whole loss at w_t, same shape.
        loss: E L(w_t), same shape.
        batch_sizes: b, one for each column.
        mean: E w_t, shape (steps, D); None for shuffled epochs.
    """

    gradient: np.ndarray
    full_gradient: np.ndarray
    loss: np.ndarray
    batch_sizes: tuple[int, ...]
    mean: np.ndarray | None = None
    _covariance: Callable[[], np.ndarray] | None = None

    @cached_property
    def covariance(self) -> np.ndarray:
        """Cov w_t, shape (steps, batch sizes, D, D); computed when first read.

        Raises:
            AttributeError: there is none for shuffled epochs.
        """
        if self._covariance is None:
            raise AttributeError("no covariance of the weights for shuffled epochs: see predict_run")
        return self._covariance()

    def __repr__(self) -> str:
        return f"GradientVariance({len(self.gradient)} steps, batch_sizes={self.batch_sizes})"


@own_settings
def gradient_variance(
    problem: Problem,
    optimizer: Optimizer,
    *,
    batch_size: int | Sequence[int],
    steps: int,
    initial: ArrayLike | None = None,
    sampling: str | None = None,
    projection: ArrayLike | None = None,
) -> GradientVariance:
    r"""Var g_t, Var of the full gradient and E L(w_t) of plain SGD, exactly, for every batch size.

    $$\mathrm{Var}(g_t) = \mathrm{Tr}[K V_t K] + \mathrm{Tr}[N_t], \qquad
      V_{t+1} = (I - \alpha_t K) V_t (I - \alpha_t K) + \alpha_t^2 N_t,$$

    with K the Hessian, V_t the covariance of w_t given the start and N_t the averaged gradient noise, which is
    affine in V_t. Var means the trace of the covariance: a sum over parameters.

    Args:
        problem: a Quadratic, LinearRegression or DatasetRegression; noise and weight decay included.
        optimizer: SGD without momentum and preconditioner; its rate alpha may be a schedule, called with t = 0, 1, ...
        batch_size: one or several different b >= 1, at most n without replacement.
        steps: rows of the result.
        initial: the start, (D,); None means the problem's default start.
        sampling: "online" for a population; "with_replacement" or "without_replacement" for a data set; None
            means online, or with replacement.
        projection: B, (k, D) or one row (D,): the variances are those of B g_t and of B times the full gradient,
            Tr[B (K V K + N) B'] (Theorems 1 and 2); None is the identity.

    Returns:
        A `GradientVariance`; inf where a number exceeds double precision.

    Raises:
        ValueError: an argument is out of range.
        NotImplementedError: another problem or optimizer, or "epochs".

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.DatasetRegression([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]], [1.0, 0.0, 2.0])
        >>> optimizer = ss.SGD(lambda t: 0.2 / (t + 1))
        >>> exact = ss.solver.gradient_variance(problem, optimizer, batch_size=[1, 3], steps=4, initial=[1.0, -1.0],
        ...                                     sampling="without_replacement")
        >>> exact.gradient[:, 0].round(3).tolist()
        [10.0, 9.316, 7.451, 6.407]
        >>> exact.gradient[:, 1].tolist()
        [0.0, 0.0, 0.0, 0.0]

    Source: theory sheet section 1 and 2; lemma 1 of "The Impact of the Mini-batch Size on the Variance of Gradients".
    """
    law = quadratic_law_of(
        problem, "closed moment equations", "use gradient_variance_polynomial for TwoLayerLinear, or simulate it"
    )
    moments = observed_moments(law, problem, projection)
    steps = _checks.integer("steps", steps)
    sizes, mode = batch_sizes_of(problem, batch_size, sampling)
    factor = factor_of(problem, mode)
    start = start_of(problem, initial)
    rates = np.array([float(rate) for rate in learning_rates(optimizer, problem, steps)])
    b = np.array(sizes, np.float64)[:, None]
    gradient, full, loss = propagate(problem, moments, rates, start, factor.of(b), 1 / b)

    def covariance() -> np.ndarray:
        whole = law.moments(whole=True)
        return whole.matrices(np.stack([v for _, v, _ in evolve(whole, rates, start, factor.of(b), 1 / b)]))

    mean = np.empty((steps, problem.dimension))
    d = moments.enter(start)
    for t, rate in enumerate(rates):
        mean[t] = moments.leave(d[None])[:, 0]
        d = moments.step(d, rate)
    return GradientVariance(gradient, full, loss, tuple(sizes), mean, covariance)


def observed_moments(law: QuadraticLaw[Any], problem: Problem, projection: ArrayLike | None) -> SecondMoments:
    """The equations of the moments, with variances of B times the gradient.

    Raises:
        ValueError: B has not D columns.
    """
    if projection is None:
        return law.moments()
    rows = np.atleast_2d(_checks.finite_array("projection", projection))
    if rows.ndim != 2 or rows.shape[1] != problem.dimension:
        raise _checks.error("projection", projection, f"of shape (k, {problem.dimension}) (got {rows.shape})",
                            "one row for each linear combination")
    return law.moments(whole=True).observe(rows)


def evolve(
    moments: SecondMoments, rates: np.ndarray, start: Vector, x: np.ndarray, inverse: np.ndarray
) -> Iterator[tuple[Vector, np.ndarray, np.ndarray]]:
    """d_t, V_t (B, S) and N_t (B, S) at t = 0, 1, ... for noise factors x (B, 1) and 1/b (B, 1)."""
    v, d = np.zeros((len(x), len(moments.rows))), moments.enter(start)
    additive = inverse * moments.additive
    for t, rate in enumerate(rates):
        noise = x * (moments.respond(v) + moments.inject(d)) + additive
        yield d, v, noise
        if t + 1 < len(rates):
            v = moments.decay(rate) * v + rate**2 * noise
            d = moments.step(d, rate)


def propagate(
    problem: Problem, moments: SecondMoments, rates: np.ndarray, start: Vector, x: np.ndarray, inverse: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three tables (steps, B) for noise factors x (B, 1) and 1/b (B, 1)."""
    steps = len(rates)
    gradient, full, excess = (np.empty((steps, len(x))) for _ in range(3))
    deviations = np.empty((steps, len(start)))
    with np.errstate(over="ignore", invalid="ignore"):
        for t, (d, v, noise) in enumerate(evolve(moments, rates, start, x, inverse)):
            deviations[t] = d
            gradient[t], full[t], excess[t] = moments.traces(v, noise)
        loss = np.asarray(problem.loss(moments.leave(deviations)))[:, None] + excess
    for table in (gradient, full, loss):
        table[np.isnan(table)] = np.inf
    return gradient, full, loss
