"""What every function of this folder is asked: an optimizer, batch sizes, a start."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Schedule, Vector
from sgdsim.optimizers import SGD, check_optimizer
from sgdsim.optimizers.base import Optimizer, constant
from sgdsim.problems import check_sampling
from sgdsim.problems.base import Problem
from sgdsim.problems.parts.linear_layers import LinearLayers

Layers = tuple[np.ndarray, ...]


def learning_rates(optimizer: Optimizer, problem: Problem, steps: int) -> list[float | Fraction]:
    """alpha_0, ..., alpha_{steps-1} of plain SGD; a schedule is called with the integers 0, 1, ...

    Raises:
        ValueError: a rate of a schedule is negative, not finite or no number.
        NotImplementedError: another optimizer, momentum or a preconditioner.
    """
    known, _ = check_optimizer(optimizer, problem.dimension)
    if not isinstance(known, SGD) or known.momentum or known.preconditioner is not None:
        name = type(optimizer).__name__ if known is not None else "an optax transformation"
        raise NotImplementedError(f"no exact variance along training for {name}{_why(known)}; it is there for SGD "
                                  "without momentum and preconditioner: use ss.gradient_variance")
    rate = known.learning_rate
    if not callable(rate):
        return [float(rate)] * steps
    return [_rate(_value(rate, t), f"learning_rate({t})") for t in range(steps)]


def _value(schedule: Schedule, t: int) -> float | Fraction:
    try:
        value: float | Fraction = schedule(t)
        return value
    except (TypeError, ValueError, ArithmeticError, LookupError) as failed:
        raise _checks.error("learning_rate", getattr(schedule, "__name__", type(schedule).__name__),
                            f"a function of the step ({failed} at t = {t})",
                            "it returns one rate for t = 0, 1, ...: lambda t: 0.5 / (t + 1)") from failed


def _why(optimizer: object) -> str:
    if not isinstance(optimizer, SGD):
        return ""
    return f" with momentum={constant(optimizer.momentum):g}" if optimizer.momentum else " with a preconditioner"


def _rate(value: float | Fraction, name: str) -> float | Fraction:
    _checks.non_negative(name, value, "a schedule returns one for t = 0, 1, ...: lambda t: 0.5 / (t + 1)")
    return value if isinstance(value, Fraction) else float(value)


def batch_sizes_of(problem: Problem, batch_size: int | Sequence[int], sampling: str | None) -> tuple[list[int], str]:
    """Different batch sizes that the sampling mode allows, and the mode.

    Raises:
        ValueError: none, one out of range, or one twice.
    """
    listed = np.atleast_1d(np.asarray(batch_size, dtype=object)).ravel()
    if listed.size == 0:
        raise _checks.error("batch_size", batch_size, "at least one batch size", "try batch_size=[1, 2, 4, 8]")
    checked = [check_sampling(problem, size, sampling) for size in listed]
    sizes = [size for size, _ in checked]
    if len(set(sizes)) < len(sizes):
        raise _checks.error("batch_size", sizes, "all different", "drop the duplicates: sorted(set(batch_size))")
    return sizes, checked[0][1]


def start_of(problem: Problem, initial: ArrayLike | None) -> Vector:
    """The start as one vector (D,); None means the problem's default start."""
    return problem.default_start if initial is None else _checks.vector("initial", initial, problem.dimension)


def layers_of(problem: LinearLayers, initial: ArrayLike | None) -> Layers:
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
