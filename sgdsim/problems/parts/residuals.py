"""What problems of the form 1/2 (f_i(w) - delta)^2 share: n residual functions under fresh label noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import PyTree

from sgdsim import _checks
from sgdsim._types import AnyArray, ArrayT, Matrix, backend_of, inner

NOISE_LAWS = ("sign", "gaussian")
MOST = 2**28  # numbers in a random instance


def check_label_noise(label_noise: float, noise: str) -> tuple[np.float64, str]:
    """A standard deviation and the name of a law with mean 0 and that standard deviation."""
    sigma = _checks.non_negative("label_noise", label_noise, "it is a standard deviation: pass |sigma|")
    return np.float64(sigma), _checks.choice("noise", noise, NOISE_LAWS)


class Residuals:
    r"""n examples with loss $\tfrac12 (f_i(w) - \delta)^2$, the label noise delta drawn afresh for each of a batch.

    $$L(w) = \frac1{2n} \sum_i f_i(w)^2 + \tfrac12 \sigma^2, \quad \nabla L = \tfrac1n J^\top f, \quad
      \nabla^2 L = \tfrac1n J^\top J + \tfrac1n \sum_i f_i \nabla^2 f_i .$$

    Where every f_i is 0, the noise of one example's gradient has covariance sigma^2 J'J / n = sigma^2 times the
    Hessian. Subclasses give `residuals`, `vjp` and `residual_hessian`.
    """

    label_noise: float
    noise: str
    minimum: np.ndarray

    def residuals(self, w: ArrayT) -> ArrayT:
        """f(w), shape (n, ...) for w (D, ...): no label noise."""
        raise NotImplementedError

    def vjp(self, w: ArrayT, weights: ArrayT) -> ArrayT:
        """J(w)' weights, (D, ...), for weights (n, ...)."""
        raise NotImplementedError

    def residual_hessian(self, w: ArrayT, weights: ArrayT) -> ArrayT:
        """The sum of weights_i times the Hessian of f_i at w (D,), shape (D, D)."""
        raise NotImplementedError

    def jacobian(self, w: ArrayT) -> ArrayT:
        """J(w), row i the gradient of f_i at w (D,), shape (n, D)."""
        n = len(self.residuals(w))
        return self.vjp(w[:, None], backend_of(w).eye(n, dtype=w.dtype)).T

    def data_loss(self, w: ArrayT) -> ArrayT:
        """The mean of f_i^2 / 2, shape of `w` without its first axis."""
        f = self.residuals(w)
        return 0.5 * inner(f, f) / len(f)

    def loss(self, w: ArrayT) -> ArrayT:
        """Expected training loss: the label noise adds sigma^2 / 2."""
        return self.data_loss(w) + 0.5 * self.label_noise**2

    def test_loss(self, w: ArrayT) -> ArrayT:
        """The mean of f_i^2 / 2: no label noise."""
        return self.data_loss(w)

    def gradient(self, w: ArrayT) -> ArrayT:
        """J'f / n."""
        f = self.residuals(w)
        return self.vjp(w, f / len(f))

    def hessian(self, w: AnyArray | None = None) -> Matrix:
        """J'J / n plus the Hessian of the residuals, at w (D,); None means `minimum`. Shape (D, D)."""
        point: Any = self.minimum if w is None else w
        f, jacobian = self.residuals(point), self.jacobian(point)
        return jacobian.T @ jacobian / len(f) + self.residual_hessian(point, f / len(f))

    def example_gradient(self, w: ArrayT, example: PyTree) -> ArrayT:
        """(f_i - delta) grad f_i for one example (i, delta): its number and its label noise."""
        i, delta = example
        f = self.residuals(w)
        chosen = (backend_of(w, i).arange(len(f)) == i).reshape((-1,) + (1,) * (w.ndim - 1))
        return self.vjp(w, chosen * (f - delta))
