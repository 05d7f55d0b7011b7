"""What linear regressions share whose weights are a nonlinear function phi of the parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdsim import _checks
from sgdsim._types import apply, inner
from sgdsim.problems._residuals import Residuals


class Reparametrized(Residuals):
    """f_i = x_i' phi(w) - y_i on n given examples: subclasses give phi, shape (p, ...), and its derivatives."""

    features: Any  # (n, p)
    targets: Any  # (n,)
    teacher: Any  # (p,), or None
    least_loss: Any  # of the data, without label noise

    @property
    def n_examples(self) -> int:
        """Number of examples n."""
        return self.features.shape[-2]

    def effective(self, w: Any) -> Any:
        """phi(w), the weights of the regression, shape (p, ...)."""
        raise NotImplementedError

    def pull_effective(self, w: Any, weights: Any) -> Any:
        """The Jacobian of phi, transposed, times weights (p, ...)."""
        raise NotImplementedError

    def bend_effective(self, w: Any, weights: Any) -> Any:
        """The sum of weights_k times the Hessian of phi_k at w (D,), shape (D, D)."""
        raise NotImplementedError

    def residuals(self, w: Any) -> Any:
        """X phi(w) - y, shape (n, ...)."""
        return apply(self.features, self.effective(w)) - self.targets.reshape((-1,) + (1,) * (w.ndim - 1))

    def pull_back(self, w: Any, weights: Any) -> Any:
        """The Jacobian of phi, transposed, times X' weights."""
        return self.pull_effective(w, apply(self.features.T, weights))

    def bend(self, w: Any, weights: Any) -> Any:
        """As for phi, with X' weights."""
        return self.bend_effective(w, apply(self.features.T, weights))

    def test_loss(self, w: Any) -> Any:
        """||phi(w) - teacher||^2; without a teacher the excess of the data loss over its minimum."""
        if self.teacher is None:
            return self.data_loss(w) - self.least_loss
        d = self.effective(w) - self.teacher.reshape((-1,) + (1,) * (w.ndim - 1))
        return inner(d, d)


def check_examples(features: np.ndarray, targets: Any, teacher: Any) -> tuple[np.ndarray, Any, np.ndarray, np.float64]:
    """Targets, the teacher or None, weights of least loss and that loss; targets may come from the teacher.

    Raises:
        ValueError: neither targets nor a teacher is given, or one has the wrong shape.
    """
    n, p = features.shape
    if targets is None and teacher is None:
        raise _checks.error("targets", targets, "given where there is no teacher", "pass targets, or teacher=")
    truth = None if teacher is None else _checks.finite_array("teacher", teacher)
    if truth is not None and truth.shape != (p,):
        raise _checks.error("teacher", teacher, f"of {p} numbers, like an example (got shape {truth.shape})",
                            "give it the shape of one example")
    if targets is None:
        return features @ truth, truth, np.asarray(truth), np.float64(0.0)
    y = _checks.finite_array("targets", targets)
    if y.shape != (n,):
        raise _checks.error("targets", targets, f"of shape ({n},) (got shape {y.shape})", "one target an example")
    best = np.linalg.lstsq(features, y, rcond=None)[0]
    return y, truth, best, np.float64(0.5 * np.mean((features @ best - y) ** 2))
