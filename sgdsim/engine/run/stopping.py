"""Stop when standard errors are small enough: a sequential rule that looks rarely and asks for a margin."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
import scipy
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from sgdsim.engine.plan.plan import Plan
from sgdsim.engine.run.collector import Collected, Collector
from sgdsim.engine.run.quantities import quantities
from sgdsim.statistics import Statistic
from sgdsim.statistics.moments import CentralMoments
from sgdsim.statistics.rhat import streaming_rhat

_SETS = 64
_CONFIDENCE = 0.95
_SETTLED = 1.05


def is_reached(plan: Plan, collector: Collector, collected: Collected) -> bool:
    """Whether every point of the grid has settled and every error is, at 95% confidence, below its target.

    Never at the first look: settled means that the second half of what was measured agrees with the first.
    """
    statistics, target = plan.request.statistics, plan.target or {}
    for c in range(len(plan.points)):
        halves = [collector.of(c, half) for half in collected.halves if half is not None]
        moments = [x for half in halves for x in half if isinstance(x, CentralMoments)]
        if len(halves) < 2 or (moments and not streaming_rhat(moments).max() <= _SETTLED):
            return False
        with np.errstate(over="ignore", invalid="ignore"):
            totals = [s.merge(x, y) for s, x, y in zip(statistics, *halves, strict=True)]
        found = relative_errors(statistics, totals, list(target))
        if not all(found[name] * _margin(totals) <= wanted for name, wanted in target.items()):
            return False
    return True


def largest_errors(plan: Plan, collector: Collector, collected: Collected) -> dict[str, float]:
    """Relative standard errors of what has a target, the largest of all points, at the end."""
    names = list(plan.target or ())
    whole = next((half for half in collector.join_halves(collected).halves if half is not None), None)
    if whole is None:
        return dict.fromkeys(names, np.inf)
    found = [relative_errors(plan.request.statistics, collector.of(c, whole), names) for c in range(len(plan.points))]
    return {name: max(errors[name] for errors in found) for name in names}


def relative_errors(statistics: Sequence[Statistic], totals: list[PyTree], names: list[str]) -> dict[str, float]:
    r"""Relative standard errors of `size` of each quantity, from leaving out one of J sets of groups at a time.

    $$\mathrm{se}^2 = \frac{J-1}{J} \sum_j (\theta_{(j)} - \bar\theta_{(\cdot)})^2.$$

    Source: Efron and Stein, "The jackknife estimate of variance" (1981).
    """
    groups = _groups(totals)
    sets = min(groups, _SETS)
    if sets < 2:
        return dict.fromkeys(names, np.inf)
    everything = quantities(statistics, totals)
    left_out: dict[str, list[float]] = {name: [] for name in names}
    for j in range(sets):
        kept = np.arange(groups) % sets != j
        part = quantities(statistics, jax.tree.map(lambda leaf, kept=kept: leaf[kept], totals))
        for name in names:
            left_out[name].append(size(name, part[name]))
    errors = {}
    for name in names:
        value, spread = size(name, everything[name]), np.var(left_out[name])
        errors[name] = float(np.sqrt((sets - 1) * spread) / abs(value)) if value else np.inf
    return {name: error if np.isfinite(error) else np.inf for name, error in errors.items()}


def size(name: str, value: ArrayLike) -> float:
    """One number for a quantity: the trace of a matrix, the sum of variances, the length of another vector."""
    array = np.asarray(value)
    if array.ndim == 2:
        return float(np.trace(array))
    if array.ndim == 0 or name == "variance":
        return float(array.sum())
    return float(np.linalg.norm(array))


def _margin(totals: list[PyTree]) -> float:
    """Upper confidence limit of a standard error over its estimate, with the scatter of few sets."""
    freedom = min(_groups(totals), _SETS) - 1
    return float(np.sqrt(freedom / scipy.stats.chi2.ppf(1 - _CONFIDENCE, freedom))) if freedom > 0 else np.inf


def _groups(totals: list[PyTree]) -> int:
    return len(jax.tree.leaves(totals)[0])
