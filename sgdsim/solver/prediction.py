"""What theory says about a problem and an optimizer: the same names as a simulation's result."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """Stationary law of the parameters, as float64 NumPy arrays.

    Attributes:
        mean: E w, shape (D,).
        covariance: stationary covariance Sigma, shape (D, D).
        noise_covariance: averaged covariance C of the minibatch-mean gradient, shape (D, D).
        train_loss: E of the loss being minimised, label noise and penalty included.
        test_loss: E of the excess loss.
        max_learning_rate: the exact mean-square limit; at or above it the covariance is infinite.
        spectral_radius: of the second-moment recursion; below 1 by construction.
        approximation: "exact", "hessian" or "continuous".
        regime: where the numbers hold, in words.
        reference: the equation they come from.
        configuration: problem, optimizer, batch size and sampling.
    """

    mean: np.ndarray
    covariance: np.ndarray
    noise_covariance: np.ndarray
    train_loss: float
    test_loss: float
    max_learning_rate: float
    spectral_radius: float
    approximation: str
    regime: str
    reference: str
    configuration: dict[str, Any]

    def __repr__(self) -> str:
        return (
            f"Prediction({self.configuration.get('problem')}, {self.configuration.get('optimizer')}, "
            f"approximation={self.approximation!r}, test_loss={self.test_loss:.6g})"
        )
