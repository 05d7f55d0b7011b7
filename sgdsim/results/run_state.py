"""What a run can be continued from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import PyTree


class RunState(NamedTuple):
    """Where every chain of a run stands after its last step; `simulate(..., initial_state=...)` goes on from it.

    Arrays have the chains first, as `Result.final`; what all chains share, as a count of steps, has no such axis.
    Random keys are raw words.

    Attributes:
        step: steps taken so far, which number the random draws to come.
        params: weights, shape (chains, D).
        optimizer: the state of the optimizer; of an adaptive one m, v (chains, D) and count.
        sampler: what the sampling remembers, as the place in a pass; () if nothing.
    """

    step: int
    params: np.ndarray
    optimizer: PyTree
    sampler: PyTree
