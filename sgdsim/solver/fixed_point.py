"""Fixed points x = g(x) by Anderson's acceleration, where g may not exist everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

_HISTORY = 5
_CALLS = 150
_SETTLED = 1e-12
_LONGEST = 1.0  # step

T = TypeVar("T")


def fixed_point(at: Callable[[Any], T | None], image: Callable[[T], Any], start: Any, climb: bool = True) -> T | None:
    """What `at` returns at the fixed point x = image(at(x)); None where none was found.

    Where `at` returns None there is nothing: the search starts above such points and turns back from them.

    Args:
        at: everything there is to know at x, shape (n,), or None.
        image: the next x, from what `at` returned.
        start: first guess.
        climb: whether a first guess with nothing there is raised by 1 until there is something.
    """
    x = np.asarray(start, np.float64)
    now, calls = at(x), 1
    while now is None and climb and calls < _CALLS:
        x = x + 1
        now, calls = at(x), calls + 1
    xs: list[np.ndarray] = []
    residuals: list[np.ndarray] = []
    while now is not None and calls < _CALLS:
        residual = image(now) - x
        if np.abs(residual).max() <= _SETTLED:
            return now
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
    return None
