"""Training and test loss averaged over chains and steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from sgdsim._specs import spec
from sgdsim.statistics.base import Measurement, add, grouped_mean


class LossSums(NamedTuple):
    """Sums by group, each of shape (G,)."""

    count: Any
    train: Any
    test: Any


@spec
class Losses:
    """Averages of `problem.loss` (label noise and penalty included) and `problem.test_loss`."""

    def init(self, dimension: int, groups: int, dtype: DTypeLike) -> LossSums:
        """Zero sums."""
        zero = jnp.zeros((groups,), dtype)
        return LossSums(zero, zero, zero)

    def update(self, sums: LossSums, at: Measurement) -> LossSums:
        """Add one step."""
        train = at.masked(at.problem.loss(at.params))
        test = at.masked(at.problem.test_loss(at.params))
        return LossSums(
            sums.count + at.weight.sum(axis=0), sums.train + train.sum(axis=0), sums.test + test.sum(axis=0)
        )

    def collect(self, sums: LossSums, centre: np.ndarray) -> LossSums:
        """Plain sums need no centre."""
        return sums

    def merge(self, a: LossSums, b: LossSums) -> LossSums:
        """Join two stretches of steps."""
        return add(a, b)

    def finalize(self, totals: LossSums) -> dict[str, tuple[ArrayLike, ArrayLike]]:
        """The two averages."""
        n = np.maximum(totals.count, 1)
        return {
            "train_loss": grouped_mean(totals.train / n, totals.count),
            "test_loss": grouped_mean(totals.test / n, totals.count),
        }
