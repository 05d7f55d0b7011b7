"""What theory says about a whole run, step by step."""

from __future__ import annotations

import dataclasses

import numpy as np

from sgdsim import _checks
from sgdsim._types import Vector


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class RunPrediction:
    """The law of the parameters at each recorded step of a run, as float64 arrays with that step first.

    Attributes:
        step: optimizer steps before each entry, shape (T,).
        mean: E w, shape (T, D).
        variance: of each parameter, shape (T, D).
        train_loss: E of the loss being minimised, shape (T,).
        test_loss: E of the excess loss, shape (T,).
        learning_rate: of the step that follows, shape (T,); NaN of an optax transformation, which does not tell.
        batch_size: of the step that follows, shape (T,).
        configuration: problem, optimizer, sampling and number of steps.
        reference: the equation the numbers come from.
        theory_error: estimate of the relative error of second moments; 0 where they are exact.
    """

    step: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    train_loss: np.ndarray
    test_loss: np.ndarray
    learning_rate: Vector
    batch_size: np.ndarray
    configuration: dict[str, str | int]
    reference: str = "whole-run.md section 1"
    theory_error: float = 0.0
    covariances: np.ndarray | None = None

    @property
    def covariance(self) -> np.ndarray:
        """Of the parameters, shape (T, D, D); up to 256 parameters.

        Raises:
            ValueError: there are more.
        """
        if self.covariances is None:
            raise _checks.error("dimension", self.mean.shape[1], "at most 256 for full covariances",
                                "read .variance, one number a parameter")
        return self.covariances

    def __repr__(self) -> str:
        how = self.configuration
        return (f"RunPrediction({how['problem']}, {how['optimizer']}, steps={how['steps']}, "
                f"test_loss={self.test_loss[-1]:.6g} at step {self.step[-1]})")
