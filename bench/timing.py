"""Warm up, then race the contestants in turn and keep the best time of each."""

from __future__ import annotations

import time
from collections.abc import Callable


def race(contestants: dict[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Best wall time in seconds of each; taking turns spreads a busy moment over all of them.

    Every contestant must return only when its result is ready.
    """
    for run in contestants.values():
        run()
    best = dict.fromkeys(contestants, float("inf"))
    for _ in range(rounds):
        for name, run in contestants.items():
            begun = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - begun)
    return best
