"""The largest number with a property, by bisection."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sgdsim import _checks

_CLOSE = 1e-9  # relative


def largest(holds: Callable[[float], bool]) -> float:
    """The number up to which `holds` is true, to nine digits; 0 where it holds nowhere, infinite where everywhere."""
    low, high = 0.0, 1.0
    if holds(high):
        while holds(high):
            low, high = high, 2 * high
            if high > _checks.LARGEST:
                return np.inf
    else:
        low = high
        while not holds(low):
            low, high = low / 2, low
            if low < 1 / _checks.LARGEST:
                return 0.0
    while high - low > _CLOSE * high:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return (low + high) / 2
