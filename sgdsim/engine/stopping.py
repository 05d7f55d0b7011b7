"""Stop when standard errors are small enough: a sequential rule that looks rarely and asks for a margin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from scipy import stats

from sgdsim import _checks
from sgdsim.engine.collector import Collected, Collector
from sgdsim.engine.configure import Run
from sgdsim.engine.quantities import empty_totals, quantities
from sgdsim.statistics import GradientNoise, LargestDeviations, Losses, Moments, ProductMoments
from sgdsim.statistics.moments import CentralMoments
from sgdsim.statistics.rhat import streaming_rhat

_LOOKS = 6
_MIN_MEASUREMENTS = 32
_SETS = 64
_CONFIDENCE = 0.95
_SETTLED = 1.05


def check_target(target: Any, run: Run) -> dict[str, float] | None:
    """Quantity -> relative standard error, of what a user asked for; None where nothing was."""
    if target is None:
        return None
    measured = [name for statistic in run.statistics for name in _names(statistic, run)]
    first = next((name for name in ("covariance", "variance", "test_loss") if name in measured), None)
    if not isinstance(target, Mapping):
        error = _checks.positive("target_stderr", target, "try 0.01")
        if first is None:
            raise _checks.error("target_stderr", target, "a mapping from measured quantities to relative errors",
                                "measure ss.statistics.Moments(), to which a number refers")
        return {first: error}
    if not target:
        raise _checks.error("target_stderr", target, "a number or a mapping that is not empty", "try 0.01")
    return {_checks.choice("target_stderr", name, measured): _checks.positive("target_stderr", value, "try 0.01")
            for name, value in target.items()}


def look_times(run: Run) -> list[int]:
    """Steps at which errors are looked at: the measured stretch doubles from one to the next."""
    window = run.steps - run.burn_in
    times = [window >> k for k in range(_LOOKS - 1, 0, -1)]
    return [run.burn_in + t for t in times if t >= _MIN_MEASUREMENTS * run.thin]


def is_reached(target: dict[str, float], run: Run, collector: Collector, collected: Collected,
               configurations: int) -> bool:
    """Whether every configuration has settled and every error is, at 95% confidence, below its target.

    Never at the first look: settled means that the second half of what was measured agrees with the first.
    """
    for c in range(configurations):
        halves = [collector.of(c, half) for half in collected.halves if half is not None]
        moments = [x for half in halves for x in half if isinstance(x, CentralMoments)]
        if len(halves) < 2 or (moments and not streaming_rhat(moments).max() <= _SETTLED):
            return False
        with np.errstate(over="ignore", invalid="ignore"):
            totals = [s.merge(x, y) for s, x, y in zip(run.statistics, *halves, strict=True)]
        found = relative_errors(run, totals, list(target))
        if not all(found[name] * _margin(totals) <= wanted for name, wanted in target.items()):
            return False
    return True


def relative_errors(run: Run, totals: list[Any], names: list[str]) -> dict[str, float]:
    r"""Relative standard errors of `size` of each quantity, from leaving out one of J sets of groups at a time.

    $$\mathrm{se}^2 = \frac{J-1}{J} \sum_j (\theta_{(j)} - \bar\theta_{(\cdot)})^2.$$

    Source: Efron and Stein, "The jackknife estimate of variance" (1981).
    """
    groups = _groups(totals)
    sets = min(groups, _SETS)
    if sets < 2:
        return dict.fromkeys(names, np.inf)
    everything = quantities(run.statistics, totals)
    left_out: dict[str, list[float]] = {name: [] for name in names}
    for j in range(sets):
        kept = np.arange(groups) % sets != j
        part = quantities(run.statistics, jax.tree.map(lambda leaf, kept=kept: leaf[kept], totals))
        for name in names:
            left_out[name].append(size(name, part[name]))
    errors = {}
    for name in names:
        value, spread = size(name, everything[name]), np.var(left_out[name])
        errors[name] = float(np.sqrt((sets - 1) * spread) / abs(value)) if value else np.inf
    return {name: error if np.isfinite(error) else np.inf for name, error in errors.items()}


def size(name: str, value: Any) -> float:
    """One number for a quantity: the trace of a matrix, the sum of variances, the length of another vector."""
    array = np.asarray(value)
    if array.ndim == 2:
        return float(np.trace(array))
    if array.ndim == 0 or name == "variance":
        return float(array.sum())
    return float(np.linalg.norm(array))


def _margin(totals: list[Any]) -> float:
    """Upper confidence limit of a standard error over its estimate, with the scatter of few sets."""
    freedom = min(_groups(totals), _SETS) - 1
    return float(np.sqrt(freedom / stats.chi2.ppf(1 - _CONFIDENCE, freedom))) if freedom > 0 else np.inf


def _groups(totals: list[Any]) -> int:
    return len(jax.tree.leaves(totals)[0])


def _names(statistic: Any, run: Run) -> list[str]:
    """What a statistic gives; only one that is not ours is asked, since asking compiles something."""
    if isinstance(statistic, Moments):
        return ["mean", "covariance" if statistic.full else "variance", "kurtosis"]
    for ours, names in ((Losses, ["train_loss", "test_loss"]), (GradientNoise, ["noise_covariance"]),
                        (ProductMoments, ["product_mean", "product_covariance"]), (LargestDeviations, [])):
        if isinstance(statistic, ours):
            return names
    with np.errstate(all="ignore"):
        return list(statistic.finalize(empty_totals((statistic,), run.initial.shape[-1], 2)[0]))
