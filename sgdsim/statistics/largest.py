"""The largest deviations of all chains at all measured steps, exactly, in memory fixed in advance."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import set_field, spec, static
from sgdsim._types import total
from sgdsim.statistics.base import Measurement

_EMPTY = -1.0


class TailSums(NamedTuple):
    """Sums by group."""

    largest: Any  # (G, keep), descending, -1 where there is none yet
    seen: Any  # (G,), how many chains at how many steps


class LargestDeviationsSummary(NamedTuple):
    """The largest deviations over all groups.

    Attributes:
        deviations: descending; every deviation at least as large as the last was kept.
        group: independent group of chains that each came from.
        seen: how many (chain, step) pairs they are the largest of.
    """

    deviations: np.ndarray
    group: np.ndarray
    seen: float


@spec
class LargestDeviations:
    """Largest |w - minimum| (Euclidean) of each group of chains, over chains and measured steps.

    The minimum is the problem's, one point for all chains and steps; where none is known (networks) it is the
    default start. The tail index does not depend on it. `Result.tail` and `Result.tail_index` are made of this.

    Args:
        keep: how many for each of the 64 or more groups.

    Raises:
        ValueError: `keep` is no whole number >= 1.
    """

    keep: int = static(default=128)

    def __post_init__(self) -> None:
        set_field(self, keep=_checks.integer("keep", self.keep))

    def init(self, dimension: int, groups: int, dtype: DTypeLike) -> TailSums:
        """Nothing kept yet."""
        return TailSums(jnp.full((groups, self.keep), _EMPTY, dtype), jnp.zeros((groups,), dtype))

    def update(self, sums: TailSums, at: Measurement) -> TailSums:
        """Add one step; groups are sorted anew only where a deviation exceeds the smallest kept."""
        known = at.problem.default_start if at.problem.minimum is None else at.problem.minimum
        centre = jnp.asarray(known, at.params.dtype)
        deviation = jnp.sqrt(total(jnp.square(at.params - centre[:, None, None])))
        deviation = jnp.where(at.weight > 0, deviation, _EMPTY)
        enters = (deviation.max(axis=0) > sums.largest[:, -1]).any()
        largest = jax.lax.cond(
            enters,
            lambda kept: jax.lax.top_k(jnp.concatenate([kept, deviation.T], axis=1), self.keep)[0],
            lambda kept: kept,
            sums.largest,
        )
        return TailSums(largest, sums.seen + at.weight.sum(axis=0))

    def collect(self, sums: TailSums, centre: np.ndarray) -> TailSums:
        """The moving centre of the other statistics plays no part."""
        return sums

    def merge(self, a: TailSums, b: TailSums) -> TailSums:
        """Join two stretches of steps."""
        both = np.concatenate([a.largest, b.largest], axis=1)
        return TailSums(-np.sort(-both, axis=1)[:, : self.keep], a.seen + b.seen)

    def finalize(self, totals: TailSums) -> dict[str, tuple[ArrayLike, ArrayLike]]:
        """Nothing: order statistics have no standard error."""
        return {}


def joint_tail(totals: TailSums) -> LargestDeviationsSummary:
    """The largest deviations of all groups, down to where a group may have dropped one."""
    full = totals.largest[:, -1] > _EMPTY
    cut = totals.largest[full, -1].max(initial=0.0)
    kept = totals.largest >= cut
    deviations = totals.largest[kept]
    group = np.nonzero(kept)[0]
    order = np.argsort(-deviations, kind="stable")
    return LargestDeviationsSummary(deviations[order], group[order], float(totals.seen.sum()))
