"""What every function of this folder is asked: learning rates, batch sizes, a start."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from sgdsim import _checks
from sgdsim._types import Vector
from sgdsim.problems import check_sampling


def learning_rates(learning_rate: Any, steps: int) -> list[Any]:
    """alpha_0, ..., alpha_{steps-1}: a number, or a function that is called with the integers 0, 1, ...

    Raises:
        ValueError: a rate is negative, not finite or no number.
    """
    remedy = "pass a number, or a function of t from 0 that returns one: lambda t: 0.5 / (t + 1)"
    if not callable(learning_rate):
        return [_rate(learning_rate, "learning_rate", remedy)] * steps
    return [_rate(learning_rate(t), f"learning_rate({t})", remedy) for t in range(steps)]


def _rate(value: Any, name: str, remedy: str) -> Any:
    _checks.non_negative(name, value, remedy)
    return value if isinstance(value, Fraction) else float(value)


def batch_sizes_of(problem: Any, batch_sizes: Any, sampling: str | None) -> tuple[list[int], str]:
    """Different batch sizes that the sampling mode allows, and the mode.

    Raises:
        ValueError: none, one out of range, or one twice.
    """
    listed = np.atleast_1d(np.asarray(batch_sizes, dtype=object)).ravel()
    if listed.size == 0:
        raise _checks.error("batch_sizes", batch_sizes, "at least one batch size", "try batch_sizes=[1, 2, 4, 8]")
    checked = [check_sampling(problem, size, sampling) for size in listed]
    sizes = [size for size, _ in checked]
    if len(set(sizes)) < len(sizes):
        raise _checks.error("batch_sizes", sizes, "all different", "drop the duplicates: sorted(set(batch_sizes))")
    return sizes, checked[0][1]


def start_of(problem: Any, initial: Any) -> Vector:
    """The start as one vector (D,); None means the problem's default start."""
    return problem.default_start if initial is None else _checks.vector("initial", initial, problem.dimension)


def layers_of(problem: Any, initial: Any) -> tuple[np.ndarray, ...]:
    """The start of a linear network as matrices, from one matrix for each layer, one vector (D,), or None.

    Raises:
        ValueError: shapes do not chain or are not the teacher's.
    """
    if initial is None:
        return problem.unflatten(problem.default_start)
    if not isinstance(initial, tuple | list) or (len(initial) > 0 and np.isscalar(initial[0])):
        return problem.unflatten(_checks.vector("initial", initial, problem.dimension))
    if len(initial) != len(problem.shapes):
        raise _checks.error("initial", initial, f"{len(problem.shapes)} matrices", "give one matrix for each layer")
    layers = tuple(_checks.finite_array(f"initial[{l}]", layer) for l, layer in enumerate(initial))
    for l, (layer, shape) in enumerate(zip(layers, problem.shapes, strict=True)):
        if layer.shape != shape:
            raise _checks.error(f"initial[{l}]", layer, f"of shape {shape} (got shape {layer.shape})",
                                "the student has the teacher's shapes: W_1 is p_1 x p, W_2 is p_2 x p_1")
    return layers
