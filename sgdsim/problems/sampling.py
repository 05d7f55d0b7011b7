"""Which sampling modes a problem has, and the batch sizes they allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sgdsim import _checks
from sgdsim.problems.base import Problem

POPULATION_SAMPLING = ("online",)
LARGEST_BATCH = 10**15  # whole numbers up to it are exact in double precision
BatchSizes = int | Sequence[int] | Callable[[int], float]
PASSES = ("epochs", "cyclic")  # every example once a pass
DATASET_SAMPLING = ("with_replacement", "without_replacement", *PASSES, "bernoulli")


def check_sampling(problem: Problem, batch_size: Any, sampling: str | None) -> tuple[int, str]:
    """The batch size and sampling mode, validated; None means online, or with replacement for a data set.

    Raises:
        ValueError: the batch size is not a whole number >= 1 (<= n where examples are not drawn twice), or the
            mode does not fit the problem.
    """
    size = _checks.integer("batch_size", batch_size)
    if size > LARGEST_BATCH:
        raise _checks.error("batch_size", size, f"at most {LARGEST_BATCH:g}", "so many are the full gradient")
    modes = POPULATION_SAMPLING if problem.n_examples is None else DATASET_SAMPLING
    mode = modes[0] if sampling is None else _checks.choice("sampling", sampling, modes)
    if mode != "with_replacement" and problem.n_examples is not None:
        _checks.integer("batch_size", size, high=problem.n_examples,
                        remedy=f"a subset of the {problem.n_examples} examples has no more than all of them")
    return size, mode


def check_batch_sizes(
    problem: Problem, batch_size: BatchSizes, steps: int, sampling: str | None
) -> tuple[np.ndarray, str]:
    """The batch size of every step, shape (steps,), or (1,) where it never changes; and the sampling mode.

    Args:
        problem: what is learned.
        batch_size: one number, one for each step, or a function of the step.
        steps: how many.
        sampling: a mode, or None for the problem's own.

    Raises:
        ValueError: a size is out of range, or there are not as many as steps.
    """
    if callable(batch_size):
        try:
            listed = [_whole(np.asarray(batch_size(t)).item()) for t in range(steps)]
        except (TypeError, ValueError, ArithmeticError, LookupError) as failed:
            raise _checks.error("batch_size", getattr(batch_size, "__name__", batch_size),
                                f"a function of the step ({failed})", "it returns one whole number for t = 0, 1, ...",
                                ) from failed
    elif np.ndim(batch_size) > 0:
        listed = [_whole(size) for size in np.asarray(batch_size).tolist()]
        if len(listed) != steps:
            raise _checks.error("batch_size", batch_size, f"one number, or as many as steps ({steps})",
                                "repeat the last, or pass a function of the step")
    else:
        size, mode = check_sampling(problem, batch_size, sampling)
        return np.array([size]), mode
    mode = check_sampling(problem, listed[0], sampling)[1]
    for each in set(listed):
        check_sampling(problem, each, sampling)
    if mode in PASSES and len(set(listed)) > 1:
        raise _checks.error("batch_size", batch_size, f"one number with sampling={mode!r}",
                            "a pass is cut into batches of one size")
    return np.array(listed if len(set(listed)) > 1 else listed[:1]), mode


def _whole(size: object) -> object:
    """A whole number that a schedule gives as a float, as an integer."""
    return int(size) if isinstance(size, float) and size.is_integer() else size
