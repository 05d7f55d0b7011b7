"""What a streaming statistic offers, and the standard error of a mean over independent groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import PyTree
from numpy.typing import ArrayLike


class Measurement(NamedTuple):
    """Every chain of a block at one step.

    Attributes:
        params: parameters before the step, shape (D, members, groups).
        gradient: the minibatch-mean gradient drawn at `params`, same shape.
        weight: 1 for a live chain, 0 for a diverged or padded one, shape (members, groups).
        centre: a point near the chains, shape (D,): sums of deviations from it keep float32 accurate.
        problem: the learning problem.
        memory: what the statistic remembers of each chain, this step included; () if nothing.
    """

    params: jax.Array
    gradient: jax.Array
    weight: jax.Array
    centre: jax.Array
    problem: Any
    memory: PyTree = ()

    def masked(self, values: jax.Array) -> jax.Array:
        """`values` with the chains that do not count set to 0 (a product would keep their NaN)."""
        return jax.numpy.where(self.weight > 0, values, 0)


class Statistic(Protocol):
    """A mergeable accumulator: sums over chains and steps, one set for each independent group of chains.

    `init` and `update` are compiled with the steps; the rest runs on the host in float64. Statistics are
    frozen pytrees (`sgdsim.spec`), so that an equal one is never compiled twice. One that looks back in time has two
    more methods, `begin(params)` and `remember(memory, params)`: what they return is carried from step to step, chains
    on the last axis, and handed to `update` in `measurement.memory`.
    """

    def init(self, dimension: int, groups: int, dtype: DTypeLike) -> PyTree:
        """Zero sums, a pytree whose leaves have `groups` as their first axis."""
        ...

    def update(self, sums: PyTree, measurement: Measurement) -> PyTree:
        """Add one step."""
        ...

    def collect(self, sums: PyTree, centre: np.ndarray) -> PyTree:
        """Totals of float64 sums about `centre`, shape (groups, D): a pytree whose leaves keep groups as first axis."""
        ...

    def merge(self, a: PyTree, b: PyTree) -> PyTree:
        """Join the totals of two stretches of steps, group by group."""
        ...

    def finalize(self, totals: PyTree) -> Mapping[str, tuple[ArrayLike, ArrayLike]]:
        """Value and standard error of each quantity."""
        ...


def add(a: PyTree, b: PyTree) -> PyTree:
    """Merge totals that are plain sums."""
    return jax.tree.map(np.add, a, b)


def grouped_mean(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Mean over groups and its standard error.

    $$\bar x = \sum_g \omega_g x_g, \quad
      \mathrm{se}^2 = \frac{G}{G-1} \sum_g \omega_g^2 (x_g - \bar x)^2, \quad \omega_g = n_g / \sum n.$$

    Args:
        values: group averages, shape (G, ...); groups must be independent.
        counts: how many measurements each averages, shape (G,).

    Returns:
        The mean, and its standard error (infinite with fewer than two groups that counted).
    """
    used = counts > 0
    values, counts = values[used], counts[used]
    if len(counts) == 0:
        empty = np.full(values.shape[1:], np.nan)
        return empty[()], np.full(values.shape[1:], np.inf)[()]
    weights = (counts / counts.sum()).reshape((-1,) + (1,) * (values.ndim - 1))
    mean = (weights * values).sum(axis=0)
    if len(counts) < 2:
        return mean, np.full(np.shape(mean), np.inf)[()]
    with np.errstate(over="ignore", invalid="ignore"):
        variance = (weights**2 * (values - mean) ** 2).sum(axis=0) * len(counts) / (len(counts) - 1)
    return mean, np.sqrt(variance)
