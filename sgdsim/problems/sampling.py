"""Which sampling modes a problem has, and the batch sizes they allow."""

from __future__ import annotations

from typing import Any

from sgdsim import _checks
from sgdsim.problems.base import Problem

POPULATION_SAMPLING = ("online",)
LARGEST_BATCH = 10**15  # whole numbers up to it are exact in double precision
DATASET_SAMPLING = ("with_replacement", "without_replacement", "epochs")


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
    if mode in ("without_replacement", "epochs"):
        _checks.integer("batch_size", size, high=problem.n_examples,
                        remedy=f"a subset of the {problem.n_examples} examples has no more than all of them")
    return size, mode
