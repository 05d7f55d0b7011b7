"""What linear regressions share whose weights are a nonlinear function phi of the parameters."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import derived
from sgdsim._types import ArrayT, apply, backend_of, inner, matmul
from sgdsim.problems.parts.least_squares import least_squares
from sgdsim.problems.parts.residuals import Residuals

_ROUNDING = 16  # what sums of products are off by, in units of the last digit of their terms


class Reparametrized(Residuals):
    """f_i = x_i' phi(w) - y_i on n given examples: subclasses give phi, shape (p, ...), and its derivatives."""

    features: np.ndarray  # (n, p)
    targets: np.ndarray  # (n,)
    teacher: np.ndarray | None  # p numbers, or None

    @property
    def n_examples(self) -> int:
        """Number of examples n."""
        return self.features.shape[-2]

    @derived
    def best(self) -> np.ndarray:
        """Weights of least data loss (p,): the teacher where it fits the targets, else those of least norm."""
        made: Any
        if self.teacher is None:
            return least_squares(self.features, self.targets)
        x, y, truth = self.features, self.targets, self.teacher.reshape(-1)
        backend = backend_of(x, y, truth)
        scale = matmul(abs(x), abs(truth)) + abs(y)
        fits = (abs(matmul(x, truth) - y) <= _ROUNDING * backend.finfo(x.dtype).eps * scale).all()
        if isinstance(fits, np.bool_):
            return truth if fits else least_squares(x, y)
        made = jnp.where(fits, truth, least_squares(x, y))
        return made

    @derived
    def least_loss(self) -> float:
        """The data loss there, without label noise."""
        return 0.5 * ((matmul(self.features, self.best) - self.targets) ** 2).mean()

    def effective(self, w: ArrayT) -> ArrayT:
        """phi(w), the weights of the regression, shape (p, ...)."""
        raise NotImplementedError

    def pull_effective(self, w: ArrayT, weights: ArrayT) -> ArrayT:
        """The Jacobian of phi, transposed, times weights (p, ...)."""
        raise NotImplementedError

    def bend_effective(self, w: ArrayT, weights: ArrayT) -> ArrayT:
        """The sum of weights_k times the Hessian of phi_k at w (D,), shape (D, D)."""
        raise NotImplementedError

    def residuals(self, w: ArrayT) -> ArrayT:
        """X phi(w) - y, shape (n, ...)."""
        return apply(self.features, self.effective(w)) - self.targets.reshape((-1,) + (1,) * (w.ndim - 1))

    def vjp(self, w: ArrayT, weights: ArrayT) -> ArrayT:
        """The Jacobian of phi, transposed, times X' weights."""
        return self.pull_effective(w, apply(self.features.T, weights))

    def residual_hessian(self, w: ArrayT, weights: ArrayT) -> ArrayT:
        """As for phi, with X' weights."""
        return self.bend_effective(w, apply(self.features.T, weights))

    def test_loss(self, w: ArrayT) -> ArrayT:
        """||phi(w) - teacher||^2; without a teacher the excess of the data loss over its minimum."""
        if self.teacher is None:
            return self.data_loss(w) - self.least_loss
        d = self.effective(w) - self.teacher.reshape((-1,) + (1,) * (w.ndim - 1))
        return inner(d, d)


def check_examples(
    features: np.ndarray, targets: ArrayLike | None, teacher: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Targets, and the teacher or None; targets may come from the teacher.

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
        return features @ truth, truth
    y = _checks.finite_array("targets", targets)
    if y.shape != (n,):
        raise _checks.error("targets", targets, f"of shape ({n},) (got shape {y.shape})", "one target an example")
    return y, truth
