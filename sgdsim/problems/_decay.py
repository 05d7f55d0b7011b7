"""Weight decay 1/2 w' Gamma w, shared by the regression problems."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdsim import _checks
from sgdsim._types import apply, inner


def check_decay(weight_decay: Any, dimension: int) -> np.ndarray:
    """Gamma as a float64 scalar array, length-D diagonal, or symmetric D x D matrix."""
    if not isinstance(weight_decay, list | tuple) and np.ndim(weight_decay) == 0:
        number = _checks.real(
            "weight_decay", weight_decay, "a number or a symmetric matrix", "use 0 for none; it may be negative"
        )
        return np.asarray(_checks.finite_array("weight_decay", number, "use 0 for none"))
    return _checks.symmetric("weight_decay", weight_decay, dimension)


def penalty(gamma: Any, w: Any) -> Any:
    """1/2 w' Gamma w."""
    return 0.5 * inner(w, apply(gamma, w))
