r"""Smaller standard errors from a companion chain whose covariance is known.

Beside every chain w runs v, linear, with the noise that the same random numbers give at the minimum:

$$v_{t+1} = v_t - \lambda P m_{t+1}, \quad m_{t+1} = \mu m_t + H v_t + \xi_t, \quad v_0 = m_0 = 0 .$$

Its mean is 0 and its covariance X_t obeys a linear recursion, exactly and from the first step on. With a and c the
averages of a moment of w and of v in a group of chains, a - beta (c - E c) has the mean of a for any beta that does
not depend on the group; each group takes the regression coefficient of all others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from sgdsim import _checks
from sgdsim._types import as_matrix, set_field, spec
from sgdsim.engine.assemble import both_halves
from sgdsim.engine.configure import Run
from sgdsim.engine.ensemble import Ensemble
from sgdsim.engine.schedule import plan_segments
from sgdsim.engine.stopping import look_times
from sgdsim.kernels import make_kernel
from sgdsim.kernels.companion import CompanionKernel, noise_at_minimum
from sgdsim.optimizers import SGD, resolve
from sgdsim.optimizers.base import rate_at
from sgdsim.problems import Problem
from sgdsim.results import Result
from sgdsim.statistics import Moments, Statistic
from sgdsim.statistics.base import Measurement, grouped_mean
from sgdsim.statistics.moments import CentralMoments

_SETTLED = 1e-13  # relative change of X_t at which it has settled


@spec
class Coupled:
    """A problem and its companion as one problem of 2D parameters: w, then v."""

    problem: Any
    hessian_matrix: Any

    def __init__(self, problem: Problem):
        set_field(self, problem=problem, hessian_matrix=np.asarray(problem.hessian(), np.float64))

    @property
    def dimension(self) -> int:
        """2D."""
        return 2 * self.problem.dimension

    @property
    def n_examples(self) -> int | None:
        """Number of examples of the problem."""
        return self.problem.n_examples

    @property
    def minimum(self) -> Any:
        """The minimum, and 0."""
        return np.concatenate([self.problem.minimum, np.zeros(self.problem.dimension)])

    @property
    def default_start(self) -> Any:
        """The start of the problem, and 0."""
        return np.concatenate([self.problem.default_start, np.zeros(self.problem.dimension)])

    def first(self, w: Any) -> Any:
        """The parameters of the problem itself."""
        return w[: self.problem.dimension]

    def loss(self, w: Any) -> Any:
        """The loss of the problem."""
        return self.problem.loss(self.first(w))

    def test_loss(self, w: Any) -> Any:
        """The test loss of the problem."""
        return self.problem.test_loss(self.first(w))

    def gradient(self, w: Any) -> Any:
        """Both gradients, (2D, ...)."""
        v = w[self.problem.dimension :]
        return jnp.concatenate([self.problem.gradient(self.first(w)), jnp.tensordot(self.hessian_matrix, v, axes=1)])

    def hessian(self, w: Any = None) -> Any:
        """The Hessian twice, block by block."""
        return np.kron(np.eye(2), self.hessian_matrix)

    def example_gradient(self, w: Any, example: Any) -> Any:
        """Not of one example: the companion knows batches only."""
        raise NotImplementedError("the companion of a problem knows batches only")

    def make_kernel(self, batch_size: int, sampling: str, dtype: Any) -> CompanionKernel:
        """The kernel of the problem, drawn twice with one key."""
        kernel = make_kernel(self.problem, batch_size, sampling, dtype)
        return CompanionKernel(kernel, np.asarray(self.problem.minimum, np.float64), self.hessian_matrix)


@spec
class OnFirst:
    """A statistic of the problem itself, measured on the coupled one."""

    statistic: Statistic

    def init(self, dimension: int, groups: int, dtype: Any) -> Any:
        """Zero sums of D parameters."""
        return self.statistic.init(dimension // 2, groups, dtype)

    def update(self, sums: Any, at: Measurement) -> Any:
        """Add one step of w."""
        problem: Coupled = at.problem
        params, gradient, centre = (problem.first(x) for x in (at.params, at.gradient, at.centre))
        mine = Measurement(params, gradient, at.weight, centre, problem.problem)
        return self.statistic.update(sums, mine)

    def collect(self, sums: Any, centre: np.ndarray) -> Any:
        """Totals of w."""
        return self.statistic.collect(sums, centre[:, : centre.shape[1] // 2])

    def merge(self, a: Any, b: Any) -> Any:
        """Join two stretches of steps."""
        return self.statistic.merge(a, b)

    def finalize(self, totals: Any) -> dict[str, tuple[Any, Any]]:
        """The quantities of the statistic."""
        return self.statistic.finalize(totals)


@spec
class CoupledMoments(Moments):
    """Moments of (w, v); those of w are reported, both are kept for the control."""

    def finalize(self, totals: CentralMoments) -> dict[str, tuple[Any, Any]]:
        """Mean, covariance and kurtosis of w, without control."""
        d = totals.mean.shape[1] // 2
        second = totals.second[:, :d, :d]
        mine = CentralMoments(totals.n, totals.mean[:, :d], second, totals.third[:, :d], totals.fourth[:, :d])
        return super().finalize(mine)


def couple_run(problem: Problem, run: Run, batch_size: int, sampling: str) -> tuple[Coupled, Run]:
    """The request for a problem as one for it and its companion.

    Raises:
        ValueError: the problem, the optimizer, the sampling mode or the statistics leave nothing to control.
    """
    noise_at_minimum(problem, batch_size, sampling)
    alone = None if run.optimizer is None else resolve(run.optimizer, problem, batch_size)
    optimizer = couple(alone, problem.dimension)
    if not any(isinstance(s, Moments) and s.full for s in run.statistics):
        raise _checks.error("control_variate", True, "False without the statistic Moments()",
                            "add ss.statistics.Moments() to statistics")
    statistics = tuple(
        CoupledMoments() if isinstance(s, Moments) and s.full else OnFirst(s) for s in run.statistics
    )
    initial = np.concatenate([run.initial, np.zeros_like(run.initial)], axis=-1)
    return Coupled(problem), run._replace(optimizer=optimizer, statistics=statistics, initial=initial)


def controlled(result: Result, ensemble: Ensemble, run: Run, coupled: Coupled, size: int, sampling: str) -> Result:
    """The result of a coupled run as one of the problem, mean and covariance with smaller standard errors."""
    problem = coupled.problem
    d = problem.dimension
    both = both_halves(run, ensemble.measured[0].halves)
    changes: dict[str, Any] = {"final": result.final[:, :d], "snapshots": result.snapshots[..., :d]}
    if result.rhat is not None:
        changes["rhat"] = result.rhat[:d]
    if both:
        moments = next(x for s, x in zip(run.statistics, both, strict=True) if isinstance(s, CoupledMoments))
        looks = look_times(run) if ensemble.how["target_stderr"] else []
        plan = plan_segments(run.steps, run.burn_in, run.thin, True, run.record, 1, looks)
        times = [part.start + r * part.inner for part in plan
                 if part.measure and not part.record and part.stop <= ensemble.steps_done for r in range(part.rounds)]
        known = companion_covariance(problem, run.optimizer, size, sampling, times)
        found = control(moments, np.asarray(problem.minimum), known)
        changes |= found._asdict()
        changes["extra"] = result.extra | {"control_gain": changes.pop("gain")}
    return dataclasses.replace(result, **changes)


class Controlled(NamedTuple):
    """What the companion makes of the moments."""

    mean: np.ndarray
    mean_stderr: np.ndarray
    covariance: np.ndarray
    covariance_stderr: np.ndarray
    gain: float  # variance of Tr Sigma without control over that with it


def couple(optimizer: Any, dimension: int) -> Any:
    """The optimizer of (w, v): the same for both.

    Raises:
        ValueError: it is not SGD.
    """
    if not isinstance(optimizer, SGD):
        raise _checks.error("control_variate", True, "False unless the optimizer is SGD or DampedNewton",
                            "the companion of other optimizers has no known covariance")
    p = optimizer.preconditioner
    if p is not None:
        p = np.tile(p, 2) if np.ndim(p) == 1 else np.kron(np.eye(2), as_matrix(p, dimension))
    return SGD(optimizer.learning_rate, float(optimizer.momentum), p)


def companion_covariance(
    problem: Problem, optimizer: Any, batch_size: int, sampling: str, times: Iterable[int]
) -> np.ndarray:
    """X_t averaged over the times t (in increasing order), float64: the expectation of v v'.

    `optimizer` is that of (w, v).
    """
    d = problem.dimension
    h, noise = np.asarray(problem.hessian(), np.float64), noise_at_minimum(problem, batch_size, sampling)
    p = np.eye(d) if optimizer.preconditioner is None else as_matrix(optimizer.preconditioner, 2 * d)[:d, :d]
    mu, x = float(optimizer.momentum), np.zeros((2 * d, 2 * d))  # of (v, m)
    kicks = np.zeros_like(x)
    kicks[d:, d:] = noise
    total, count, t, settled = np.zeros((d, d)), 0, 0, False
    for time in times:
        while t < time and not settled:
            rate = float(rate_at(optimizer.learning_rate, t))
            turn = np.block([[np.eye(d), np.zeros((d, d))], [h, mu * np.eye(d)]])
            move = np.block([[np.eye(d), -rate * p], [np.zeros((d, d)), np.eye(d)]])
            new = move @ (turn @ x @ turn.T + kicks) @ move.T
            settled = not callable(optimizer.learning_rate) and bool(
                np.abs(new - x).max() <= _SETTLED * np.abs(new).max()
            )
            x, t = new, t + 1
        total, count = total + x[:d, :d], count + 1
    return total / max(count, 1)


def control(totals: CentralMoments, minimum: np.ndarray, known: np.ndarray) -> Controlled:
    """Mean and covariance of w from the totals of (w, v), group by group, and what `known` = E v v' makes of them."""
    d = len(minimum)
    n = np.maximum(totals.n, 1)
    mean = totals.mean - np.concatenate([minimum, np.zeros(d)])
    second = totals.second / n[:, None, None] + mean[:, :, None] * mean[:, None, :]
    plain = second[:, :d, :d]
    firsts = _adjusted(mean[:, :d], mean[:, d:], np.zeros(d), totals.n)
    seconds = _adjusted(plain, second[:, d:, d:], known, totals.n)
    first, first_stderr = grouped_mean(firsts, totals.n)
    raw, raw_stderr = grouped_mean(seconds, totals.n)
    trace = [grouped_mean(np.trace(x, axis1=1, axis2=2), totals.n)[1] for x in (plain, seconds)]
    gain = float(trace[0] / trace[1]) ** 2 if trace[1] > 0 else np.inf
    square = np.outer(first, first)
    return Controlled(first + minimum, first_stderr, raw - square + np.diag(first_stderr**2), raw_stderr, gain)


def _adjusted(values: np.ndarray, controls: np.ndarray, known: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Values of every group, less beta times what its control is off by; beta from all OTHER groups."""
    weight = count.reshape((-1,) + (1,) * (values.ndim - 1)) / count.sum()
    off = controls - known

    def others(x: Any) -> Any:
        return ((weight * x).sum(axis=0) - weight * x) / (1 - weight)

    together = others(values * off) - others(values) * others(off)
    spread = others(off * off) - others(off) ** 2
    beta = np.divide(together, spread, out=np.zeros_like(values), where=spread > 0)
    return values - beta * off
