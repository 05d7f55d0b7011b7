"""From totals of statistics to named quantities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from sgdsim.statistics import Statistic


def quantities(statistics: Sequence[Statistic], totals: Sequence[Any]) -> dict[str, Any]:
    """Value and `_stderr` of every quantity."""
    numbers: dict[str, Any] = {}
    # A diverged run overflows here; its status and count say so.
    with np.errstate(over="ignore", invalid="ignore"):
        for statistic, total in zip(statistics, totals, strict=True):
            for name, (value, stderr) in statistic.finalize(total).items():
                numbers[name], numbers[f"{name}_stderr"] = value, stderr
    return numbers


def empty_totals(statistics: Sequence[Statistic], dimension: int, groups: int) -> list[Any]:
    """Totals of groups that were not measured: merging them changes nothing."""
    centre = np.zeros((groups, dimension))
    sums = [jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), s.init(dimension, groups, np.float32))
            for s in statistics]
    with np.errstate(all="ignore"):
        return [s.collect(x, centre) for s, x in zip(statistics, sums, strict=True)]
