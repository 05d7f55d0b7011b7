"""From totals of statistics to named quantities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from sgdsim.statistics import Statistic

# A quantity of our statistics is an array or a number; one of a user's statistic is what it returns.
Numbers = dict[str, np.ndarray]


def quantities(statistics: Sequence[Statistic], totals: Sequence[PyTree]) -> Numbers:
    """Value and `_stderr` of every quantity."""
    numbers: Numbers = {}
    # A diverged run overflows here; its status and count say so.
    with np.errstate(over="ignore", invalid="ignore"):
        for statistic, total in zip(statistics, totals, strict=True):
            found: Mapping[str, tuple[Any, Any]] = statistic.finalize(total)
            for name, (value, stderr) in found.items():
                numbers[name], numbers[f"{name}_stderr"] = value, stderr
    return numbers


def empty_totals(statistics: Sequence[Statistic], dimension: int, groups: int) -> list[PyTree]:
    """Totals of groups that were not measured: merging them changes nothing."""
    centre = np.zeros((groups, dimension))
    sums = [jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), s.init(dimension, groups, np.float32))
            for s in statistics]
    with np.errstate(all="ignore"):
        return [s.collect(x, centre) for s, x in zip(statistics, sums, strict=True)]
