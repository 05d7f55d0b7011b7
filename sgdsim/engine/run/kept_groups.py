"""Keep the totals of groups of chains, where they fit, until someone asks what each of them does to a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import PyTree

from sgdsim import _checks
from sgdsim.engine.plan.blocks import Blocks
from sgdsim.engine.plan.plan import Plan
from sgdsim.engine.run.quantities import Numbers, empty_totals, quantities
from sgdsim.results.groups import MOST_BYTES, MOST_GROUPS, Groups
from sgdsim.statistics import Statistic
from sgdsim.statistics.largest import TailSums

# From the totals of some groups to numbers.
Finalize = Callable[[Sequence[Statistic], Sequence[PyTree]], Numbers]


def kept_groups(
    plan: Plan, totals: Sequence[PyTree], keep: bool | None, finalize: Finalize = quantities
) -> Groups | None:
    """Groups joined into at most 64; None where nothing was measured, or they do not fit and need not be kept."""
    wanted = keep if keep is None else _checks.flag("keep_groups", keep)
    if wanted is False or not totals:
        return None
    kept = [(s, total) for s, total in zip(plan.request.statistics, totals, strict=True)
            if not isinstance(total, TailSums)]  # which are no numbers with an error
    statistics = [s for s, _ in kept]
    joined, sizes = _joined(statistics, [total for _, total in kept], chains_of_groups(plan.blocks),
                            plan.request.dimension)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(joined)) * len(plan.points)
    if wanted is None and held > MOST_BYTES:
        return None

    def without() -> Numbers:
        left = [finalize(statistics, jax.tree.map(lambda leaf, k=k: np.delete(leaf, k, axis=0), joined))
                for k in range(len(sizes))]
        return {name: np.array([numbers[name] for numbers in left])
                for name in left[0] if not name.endswith("_stderr")}

    return Groups(sizes, without)


def chains_of_groups(blocks: Blocks) -> np.ndarray:
    """Chains of each group, in the order of totals."""
    return np.concatenate([np.bincount(np.arange(many) % blocks.groups, minlength=blocks.groups)
                           for many in blocks.valid])


def _joined(
    statistics: Sequence[Statistic], totals: Sequence[PyTree], sizes: np.ndarray, dimension: int
) -> tuple[list[PyTree], np.ndarray]:
    """Every 64th group as one: what joins stretches of steps joins chains too."""
    many = len(sizes)
    if many <= MOST_GROUPS:
        return list(totals), sizes
    rounds = -(-many // MOST_GROUPS)
    missing = rounds * MOST_GROUPS - many
    nothing = empty_totals(statistics, dimension, missing)
    full = jax.tree.map(lambda leaf, empty: np.concatenate([leaf, empty]), list(totals), nothing)
    parts = [jax.tree.map(lambda leaf, r=r: leaf[r * MOST_GROUPS : (r + 1) * MOST_GROUPS], full) for r in range(rounds)]
    found = parts[0]
    with np.errstate(over="ignore", invalid="ignore"):
        for part in parts[1:]:
            found = [s.merge(a, b) for s, a, b in zip(statistics, found, part, strict=True)]
    return found, np.pad(sizes, (0, missing)).reshape(rounds, MOST_GROUPS).sum(axis=0)
