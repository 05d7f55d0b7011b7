"""What problems of the form 1/2 (f_i(w) - delta)^2 share: n residual functions under fresh label noise."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim import _checks
from sgdsim._types import inner

NOISE_LAWS = ("sign", "gaussian")
MOST = 2**28  # numbers in a random instance


def backend_of(*arrays: Any) -> Any:
    """jax.numpy if one of the arrays is JAX's, else numpy."""
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np


def check_label_noise(label_noise: Any, noise: Any) -> tuple[np.float64, str]:
    """A standard deviation and the name of a law with mean 0 and that standard deviation."""
    sigma = _checks.non_negative("label_noise", label_noise, "it is a standard deviation: pass |sigma|")
    return np.float64(sigma), _checks.choice("noise", noise, NOISE_LAWS)


class Residuals:
    r"""n examples with loss $\tfrac12 (f_i(w) - \delta)^2$, the label noise delta drawn afresh for each of a batch.

    $$L(w) = \frac1{2n} \sum_i f_i(w)^2 + \tfrac12 \sigma^2, \quad \nabla L = \tfrac1n J^\top f, \quad
      \nabla^2 L = \tfrac1n J^\top J + \tfrac1n \sum_i f_i \nabla^2 f_i .$$

    Where every f_i is 0, the noise of one example's gradient has covariance sigma^2 J'J / n = sigma^2 times the
    Hessian. Subclasses give `residuals`, `pull_back` and `bend`.
    """

    label_noise: Any
    noise: str
    minimum: Any

    def residuals(self, w: Any) -> Any:
        """f(w), shape (n, ...) for w (D, ...): no label noise."""
        raise NotImplementedError

    def pull_back(self, w: Any, weights: Any) -> Any:
        """J(w)' weights, (D, ...), for weights (n, ...)."""
        raise NotImplementedError

    def bend(self, w: Any, weights: Any) -> Any:
        """The sum of weights_i times the Hessian of f_i at w (D,), shape (D, D)."""
        raise NotImplementedError

    def jacobian(self, w: Any) -> Any:
        """J(w), row i the gradient of f_i at w (D,), shape (n, D)."""
        n = len(self.residuals(w))
        return self.pull_back(w[:, None], backend_of(w).eye(n, dtype=w.dtype)).T

    def data_loss(self, w: Any) -> Any:
        """The mean of f_i^2 / 2, shape of `w` without its first axis."""
        f = self.residuals(w)
        return 0.5 * inner(f, f) / len(f)

    def loss(self, w: Any) -> Any:
        """Expected training loss: the label noise adds sigma^2 / 2."""
        return self.data_loss(w) + 0.5 * self.label_noise**2

    def test_loss(self, w: Any) -> Any:
        """The mean of f_i^2 / 2: no label noise."""
        return self.data_loss(w)

    def gradient(self, w: Any) -> Any:
        """J'f / n."""
        f = self.residuals(w)
        return self.pull_back(w, f / len(f))

    def hessian(self, w: Any = None) -> Any:
        """J'J / n plus the bend of the residuals, at w (D,); None means `minimum`. Shape (D, D)."""
        point = self.minimum if w is None else w
        f, jacobian = self.residuals(point), self.jacobian(point)
        return jacobian.T @ jacobian / len(f) + self.bend(point, f / len(f))

    def example_gradient(self, w: Any, example: Any) -> Any:
        """(f_i - delta) grad f_i for one example (i, delta): its number and its label noise."""
        i, delta = example
        f = self.residuals(w)
        chosen = (backend_of(w, i).arange(len(f)) == i).reshape((-1,) + (1,) * (w.ndim - 1))
        return self.pull_back(w, chosen * (f - delta))
