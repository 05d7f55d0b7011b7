"""What makes a run the same run: everything that its numbers depend on, as plain text."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import jax
import jaxlib
import numpy as np
import optax

from sgdsim._version import __version__
from sgdsim.engine.configure import Run

_SHOWN = 60


def identity(run: Run, problem: Any, optimizer: Any, platform: str, rest: dict[str, Any]) -> dict[str, str]:
    """Name -> value of all that must be equal for a run to be continued; large things by a digest.

    Functions count by what they do: schedules by their values at some steps, an optax transformation by its first
    updates. Passes and devices are no part of it: they change no number.
    """
    found = {
        "problem": digest(problem),
        "optimizer": digest(optimizer) if run.transform is None else _behaviour(run),
        "initial": digest(run.initial),
        "statistics": digest(run.statistics),
        "record": digest(run.record),
        "schedule": _schedule(run),
        **{name: getattr(run, name) for name in ("chains", "steps", "burn_in", "thin", "seed", "dtype")},
        "platform": platform,
        "versions": f"sgdsim {__version__}, jax {jax.__version__}, jaxlib {jaxlib.__version__}, "
                    f"numpy {np.__version__}, optax {optax.__version__}",
        **rest,
    }
    return {name: str(value) for name, value in found.items()}


def digest(value: Any) -> str:
    """A short text for `value`: its representation, and a digest of it and of the arrays in it."""
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    state = hashlib.sha256(text.encode())
    for leaf in jax.tree.leaves(value):
        array = np.asarray(leaf)
        state.update(f"{array.shape}{array.dtype}".encode())
        state.update(np.ascontiguousarray(array).tobytes() if array.dtype != object else b"")
    return f"{text if len(text) <= _SHOWN else text[:_SHOWN] + '...'} #{state.hexdigest()[:16]}"


def _schedule(run: Run) -> str:
    rate = getattr(run.optimizer, "learning_rate", None)
    if not callable(rate):
        return "none"
    steps = np.unique(np.geomspace(1, run.steps, 64).astype(int)) - 1
    return digest(np.array([float(rate(t)) for t in steps]))


def _behaviour(run: Run) -> str:
    point = np.linspace(0.5, 1.5, run.initial.shape[-1])
    state, seen = run.transform.init(point), []
    for sign in (1.0, -2.0, 0.5):
        update, state = run.transform.update(sign * point, state, point)
        seen.append(np.asarray(update))
    return f"optax transformation, first updates {digest(seen)}"
