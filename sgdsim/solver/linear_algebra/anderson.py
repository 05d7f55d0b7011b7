"""Fixed points x = g(x) by Anderson's acceleration, where g may not exist everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from sgdsim import _checks

_HISTORY = 5
_CALLS = 150
_SETTLED = 1e-12
_ROUNDING = 1e-10  # a residual below it that no longer shrinks is rounding
_LONGEST = 1.0  # step

T = TypeVar("T")


def fixed_point(
    at: Callable[[np.ndarray], T | None], image: Callable[[T], np.ndarray], start: np.ndarray, climb: bool = True
) -> T:
    """What `at` returns at the fixed point x = image(at(x)).

    Where `at` returns None there is nothing: the search starts above such points and turns back from them.

    Args:
        at: everything there is to know at x, shape (n,), or None.
        image: the next x, from what `at` returned.
        start: first guess.
        climb: whether a first guess with nothing there is raised by 1 until there is something.

    Raises:
        NotConverged: no fixed point was found; `reached` is what is known at the last x.
    """
    x = np.asarray(start, np.float64)
    now, calls = at(x), 1
    while now is None and climb and calls < _CALLS:
        x = x + 1
        now, calls = at(x), calls + 1
    xs: list[np.ndarray] = []
    residuals: list[np.ndarray] = []
    smallest = np.inf
    while now is not None and calls < _CALLS:
        residual = image(now) - x
        size = float(np.abs(residual).max())
        if size <= _SETTLED or smallest <= size <= _ROUNDING:
            return now
        smallest = min(smallest, size)
        xs, residuals = [*xs, x][-_HISTORY:], [*residuals, residual][-_HISTORY:]
        step = residual / 2
        if len(xs) > 1:
            dx, dr = (np.diff(np.stack(y), axis=0).T for y in (xs, residuals))
            step = step - (dx + dr / 2) @ np.linalg.lstsq(dr, residual, rcond=1e-12)[0]
        step = step * min(1.0, _LONGEST / float(np.abs(step).max()))
        there, calls = at(x + step), calls + 1
        while there is None and calls < _CALLS:
            step, xs, residuals = step / 2, [], []
            there, calls = at(x + step), calls + 1
        x, now = x + step, there
    raise _checks.NotConverged(f"no fixed point after {calls} rounds: the last one changed it by {smallest:.1e}", now)
