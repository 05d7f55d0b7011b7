"""What makes a run the same run: everything that its numbers depend on, as plain text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import jax
import jaxlib
import numpy as np
import optax
from jaxtyping import PyTree

from sgdsim import _checks
from sgdsim._version import __version__
from sgdsim.engine.plan.blocks import Blocks
from sgdsim.engine.plan.request import Request
from sgdsim.engine.run.advance import Launch, Shared, Unit, advance, begin, lowering
from sgdsim.problems import Problem

_SHOWN = 60


def identity(request: Request, problem: Problem, platform: str, rest: Mapping[str, object]) -> dict[str, str]:
    """Name -> value of all that must be equal for a run to be continued; large things by a digest.

    Functions (losses, activations, schedules, optax transformations) count by the program that they are compiled to,
    constants included: see `program`. Passes and devices are no part of it: they change no number.
    """
    found = {
        "problem": digest(problem),
        "optimizer": "optax transformation" if request.optimizer is None else digest(request.optimizer),
        "initial": digest(request.initial),
        "statistics": digest(request.statistics),
        "record": digest(request.record),
        **{name: getattr(request, name) for name in ("chains", "steps", "burn_in", "thin", "seed", "dtype")},
        "platform": platform,
        "versions": f"sgdsim {__version__}, jax {jax.__version__}, jaxlib {jaxlib.__version__}, "
                    f"numpy {np.__version__}, optax {optax.__version__}",
        **rest,
    }
    return {name: str(value) for name, value in found.items()}


def digest(value: object) -> str:
    """A short text for `value`: its representation, and a digest of it and of the arrays in it."""
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    state = hashlib.sha256(text.encode())
    for leaf in jax.tree.leaves(value):
        array = np.asarray(leaf)
        state.update(f"{array.shape}{array.dtype}".encode())
        state.update(np.ascontiguousarray(array).tobytes() if array.dtype != object else b"")
    return f"{text if len(text) <= _SHOWN else text[:_SHOWN] + '...'} #{state.hexdigest()[:16]}"


def program(shared: Shared, request: Request, blocks: Blocks, launch: Launch | None, name: str) -> str:
    """A digest of what is compiled for one block on one device: code and constants, whatever they were written as.

    Raises:
        ValueError: it calls back into Python, whose code no program holds, and the run has no name.
    """
    params: PyTree = jax.ShapeDtypeStruct((1, request.dimension, blocks.size), request.dtype)
    alive: PyTree = jax.ShapeDtypeStruct((1, blocks.size), np.bool_)
    number: PyTree = jax.ShapeDtypeStruct((1,), np.int32)
    unit = Unit(number, number, jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1)))
    how = {"transform": request.transform, "mesh": None}
    first = begin.lower(shared, unit, params, alive, **how)
    scalar = np.int32(0)
    with lowering():
        rest = advance.lower(shared, unit, first.out_info, scalar, scalar, scalar, np.bool_(True),
                             groups=blocks.groups, launch=launch, **how)
    text = first.as_text() + rest.as_text()
    if re.search(r"@\w*python\w*callback", text) and not name:
        raise _checks.error("checkpoint", "without a name", "named where a run calls back into Python: what is called "
                            "is not in its program", "pass ss.Checkpoint(path, name='first'), or use jax.numpy alone")
    return hashlib.sha256(text.encode()).hexdigest()[:16]
