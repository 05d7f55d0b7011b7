"""Families of schedules: learning rate, momentum and batch size of every step from a few real numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

_KNOTS = 12  # of a free schedule, dense at both ends of the run
_SIZE_KNOTS = 6


class Plan(NamedTuple):
    """Learning rate and batch size of each step, shape (steps,), and momentum."""

    rate: Array
    momentum: Array
    size: Array


class Family(NamedTuple):
    """Schedules of one kind.

    Attributes:
        numbers: how many numbers describe its rates.
        rate: from these numbers to the logarithm of the rate at each step.
    """

    numbers: int
    rate: Callable[[Array], Array]


def families(steps: int) -> Mapping[str, Family]:
    """Constant, cosine and linear to zero, by the logarithm of their peak; and free, by that at each of 12 knots."""
    s = (np.arange(steps) + 0.5) / steps
    shapes = {"constant": np.ones(steps), "cosine": (1 + np.cos(np.pi * s)) / 2, "linear": 1 - s}
    return {name: _scaled(shape) for name, shape in shapes.items()} | {
        "designed": Family(_KNOTS, lambda x: jnp.interp(s, knots(_KNOTS), x))
    }


def _scaled(shape: np.ndarray) -> Family:
    return Family(1, lambda x: x[0] + np.log(shape))


def knots(count: int) -> np.ndarray:
    """Places in [0, 1], dense at both ends."""
    return (1 - np.cos(np.pi * np.arange(count) / (count - 1))) / 2


def sizes(x: Array, steps: int, mean: float) -> Array:
    """Batch sizes of at least 1 and of this mean; all equal at x = 0."""
    s = (np.arange(steps) + 0.5) / steps
    weight = jnp.exp(jnp.interp(s, knots(_SIZE_KNOTS), x)) if len(x) else jnp.ones(steps)
    return 1 + (mean - 1) * weight / weight.mean()


def size_numbers(free: bool) -> int:
    """How many numbers describe the batch sizes."""
    return _SIZE_KNOTS if free else 0


def whole(size: np.ndarray) -> list[int] | int:
    """Whole batch sizes of the same sum, rounded down; one number where all are equal."""
    rounded = np.diff(np.floor(np.cumsum(size) + 1e-6), prepend=0.0).astype(int)
    return int(rounded[0]) if (rounded == rounded[0]).all() else rounded.tolist()
