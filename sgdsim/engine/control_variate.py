r"""Smaller standard errors from a companion chain whose covariance is known.

Beside every chain w runs v, linear, with the noise that the same random numbers give at the minimum:

$$v_{t+1} = v_t - \lambda P m_{t+1}, \quad m_{t+1} = \mu m_t + H v_t + \xi_t, \quad v_0 = m_0 = 0 .$$

Its mean is 0 and its covariance X_t obeys a linear recursion, exactly and from the first step on. With a and c the
averages of a moment of w and of v in a group of chains, a - beta (c - E c) has the mean of a for any beta that does
not depend on the group; each group takes the regression coefficient of all others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import PyTree

from sgdsim._types import as_matrix
from sgdsim.engine.plan.coupling import CoupledMoments
from sgdsim.engine.run.assemble import both_halves
from sgdsim.engine.run.kept_groups import kept_groups
from sgdsim.engine.run.loop import Ensemble
from sgdsim.engine.run.quantities import Numbers, quantities
from sgdsim.kernels import noise_at_minimum
from sgdsim.optimizers import SGD
from sgdsim.optimizers.base import constant, rate_at
from sgdsim.problems import Problem
from sgdsim.results import Quantity, Result
from sgdsim.statistics import Statistic
from sgdsim.statistics.base import grouped_mean
from sgdsim.statistics.moments import CentralMoments

_SETTLED = 1e-13  # relative change of X_t at which it has settled


def controlled(result: Result, ensemble: Ensemble, keep_groups: bool | None = None) -> Result:
    """The result of a coupled run as one of the problem, mean and covariance with smaller standard errors."""
    plan = ensemble.plan
    problem, d = plan.problem, plan.problem.dimension
    changed = dataclasses.replace(result, final=result.final[:, :d], snapshots=result.snapshots[..., :d],
                                  rhat=None if result.rhat is None else result.rhat[:d])
    both = both_halves(plan.request, ensemble.measured[0].halves)
    if not both or plan.companion is None:
        return changed
    times = [part.start + r * part.inner for part in plan.segments
             if part.measure and not part.record and part.stop <= ensemble.steps_done for r in range(part.rounds)]
    [batch_size] = np.ravel(plan.points[0].batch_size)
    known = companion_covariance(problem, plan.companion, int(batch_size), plan.points[0].sampling, times)
    minimum = np.asarray(problem.minimum)

    def with_control(statistics: Sequence[Statistic], totals: Sequence[PyTree]) -> Numbers:
        moments = next(x for s, x in zip(statistics, totals, strict=True) if isinstance(s, CoupledMoments))
        return quantities(statistics, totals) | control(moments, minimum, known)._asdict()

    found = with_control(plan.request.statistics, both)
    named = {name: Quantity(found[name], found[f"{name}_stderr"]) for name in ("mean", "covariance")}
    named["control_gain"] = Quantity(found["gain"], np.nan)
    return dataclasses.replace(changed, quantities={**result.quantities, **named},
                               groups=kept_groups(plan, both, keep_groups, with_control))


class Controlled(NamedTuple):
    """What the companion makes of the moments."""

    mean: np.ndarray
    mean_stderr: np.ndarray
    covariance: np.ndarray
    covariance_stderr: np.ndarray
    gain: float  # variance of Tr Sigma without control over that with it


def companion_covariance(
    problem: Problem, optimizer: SGD, batch_size: int, sampling: str, times: Iterable[int]
) -> np.ndarray:
    """X_t averaged over the times t (in increasing order), float64: the expectation of v v'."""
    d = problem.dimension
    h, noise = np.asarray(problem.hessian(), np.float64), noise_at_minimum(problem, batch_size, sampling)
    p = np.eye(d) if optimizer.preconditioner is None else as_matrix(optimizer.preconditioner, d)
    mu, x = constant(optimizer.momentum), np.zeros((2 * d, 2 * d))  # of (v, m)
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

    def others(x: np.ndarray) -> np.ndarray:
        return ((weight * x).sum(axis=0) - weight * x) / (1 - weight)

    together = others(values * off) - others(values) * others(off)
    spread = others(off * off) - others(off) ** 2
    beta = np.divide(together, spread, out=np.zeros_like(values), where=spread > 0)
    return values - beta * off
