"""The variance of minibatch gradients step by step, for many batch sizes at once."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from sgdsim import _checks
from sgdsim.solver.variance.arguments import batch_sizes_of, learning_rates, start_of
from sgdsim.solver.variance.choose import factor_of, moments_of, noise_factors
from sgdsim.solver.variance.second_moments import SecondMoments


@dataclasses.dataclass(frozen=True, eq=False)
class GradientVariance:
    """Exact expectations over all runs from one start; row t is the state after t updates, row 0 the start.

    Attributes:
        gradient: Var g_t = E||g_t||^2 - ||E g_t||^2 of the batch gradient, (steps, batch sizes).
        full_gradient: Var of the gradient of the whole loss at w_t, same shape.
        loss: E L(w_t), same shape.
        batch_sizes: b, one for each column.
    """

    gradient: np.ndarray
    full_gradient: np.ndarray
    loss: np.ndarray
    batch_sizes: tuple[int, ...]

    def __repr__(self) -> str:
        return f"GradientVariance({len(self.gradient)} steps, batch_sizes={self.batch_sizes})"


def gradient_variance(
    problem: Any,
    learning_rate: Any,
    *,
    batch_sizes: Any,
    steps: int,
    initial: Any = None,
    sampling: str | None = None,
) -> GradientVariance:
    r"""Var g_t, Var of the full gradient and E L(w_t) of plain SGD, exactly, for every batch size.

    $$\mathrm{Var}(g_t) = \mathrm{Tr}[K V_t K] + \mathrm{Tr}[N_t], \qquad
      V_{t+1} = (I - \alpha_t K) V_t (I - \alpha_t K) + \alpha_t^2 N_t,$$

    with K the Hessian, V_t the covariance of w_t given the start and N_t the averaged gradient noise, which is
    affine in V_t. Var means the trace of the covariance: a sum over parameters.

    Args:
        problem: a Quadratic, LinearRegression or DatasetRegression; noise and weight decay included.
        learning_rate: alpha, or a function of t = 0, 1, ... that is called with integers.
        batch_sizes: different b >= 1, at most n without replacement.
        steps: rows of the result.
        initial: the start, (D,); None means the problem's default start.
        sampling: "online" for a population; "with_replacement" or "without_replacement" for a data set; None
            means online, or with replacement.

    Returns:
        A `GradientVariance`; inf where a number exceeds double precision.

    Raises:
        ValueError: an argument is out of range.
        NotImplementedError: another problem, or "epochs".

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.DatasetRegression([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]], [1.0, 0.0, 2.0])
        >>> exact = ss.solver.gradient_variance(problem, lambda t: 0.2 / (t + 1), batch_sizes=[1, 3], steps=4,
        ...                                     initial=[1.0, -1.0], sampling="without_replacement")
        >>> exact.gradient[:, 0].round(3).tolist()
        [10.0, 9.316, 7.451, 6.407]
        >>> exact.gradient[:, 1].tolist()
        [0.0, 0.0, 0.0, 0.0]

    Source: theory sheet section 1 and 2; lemma 1 of "The Impact of the Mini-batch Size on the Variance of Gradients".
    """
    moments = moments_of(problem)
    steps = _checks.integer("steps", steps)
    sizes, mode = batch_sizes_of(problem, batch_sizes, sampling)
    factor = factor_of(problem, mode)
    start = start_of(problem, initial)
    rates = np.array([float(rate) for rate in learning_rates(learning_rate, steps)])
    x, inverse = noise_factors(factor, sizes)
    gradient, full, loss = propagate(problem, moments, rates, start, x, inverse)
    return GradientVariance(gradient, full, loss, tuple(sizes))


def propagate(
    problem: Any, moments: SecondMoments, rates: np.ndarray, start: np.ndarray, x: Any, inverse: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three tables (steps, B) for noise factors x (B, 1) and 1/b (B, 1)."""
    steps = len(rates)
    gradient, full, excess = (np.empty((steps, len(x))) for _ in range(3))
    deviations = np.empty((steps, len(start)))
    v, d = np.zeros((len(x), len(moments.rows))), moments.enter(start)
    additive = inverse * moments.additive
    with np.errstate(over="ignore", invalid="ignore"):
        for t, rate in enumerate(rates):
            deviations[t] = d
            noise = x * (moments.respond(v) + moments.inject(d)) + additive
            gradient[t], full[t], excess[t] = moments.traces(v, noise)
            if t + 1 < steps:
                v = moments.decay(rate) * v + rate**2 * noise
                d = moments.step(d, rate)
        loss = np.asarray(problem.loss(moments.leave(deviations)))[:, None] + excess
    for table in (gradient, full, loss):
        table[np.isnan(table)] = np.inf
    return gradient, full, loss
