"""Weight decay 1/2 w' Gamma w, shared by the regression problems."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import AnyArray, ArrayT, apply, inner


def check_decay(weight_decay: ArrayLike, dimension: int) -> np.ndarray:
    """Gamma as a float64 scalar array, length-D diagonal, or symmetric D x D matrix."""
    if not isinstance(weight_decay, list | tuple) and np.ndim(weight_decay) == 0:
        number = _checks.real(
            "weight_decay", weight_decay, "a number or a symmetric matrix", "use 0 for none; it may be negative"
        )
        return np.asarray(_checks.finite_array("weight_decay", number, "use 0 for none"))
    return _checks.symmetric("weight_decay", weight_decay, dimension)


def is_zero(gamma: object) -> bool:
    """Whether there is none, as far as is known: under a transformation of JAX nothing is."""
    return isinstance(gamma, np.ndarray | np.generic) and not gamma.any()


def penalty(gamma: AnyArray, w: ArrayT) -> ArrayT:
    """1/2 w' Gamma w."""
    return 0.5 * inner(w, apply(gamma, w))
