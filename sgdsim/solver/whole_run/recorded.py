"""Which steps of a run are kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sgdsim import _checks


def recorded_steps(record: int | Sequence[int] | None, steps: int) -> np.ndarray:
    """Which steps are kept: all of a list, every so many, or about a hundred; the state after the last is `steps`.

    Raises:
        ValueError: a step is out of range.
    """
    if record is None:
        return np.unique(np.linspace(0, steps, 101).round().astype(int))
    if np.ndim(record) == 0:
        every = _checks.integer("record", record, high=steps, remedy="record every so many steps, or list steps")
        return np.arange(0, steps, every)
    return np.unique([_checks.integer("record", t, low=0, high=steps) for t in _checks.sequence("record", record)])
