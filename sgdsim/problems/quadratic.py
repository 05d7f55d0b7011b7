"""A quadratic bowl whose gradient carries additive Gaussian noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdsim import _checks
from sgdsim._types import apply, as_matrix, inner, set_field, spec, summary


@spec
class Quadratic:
    r"""Quadratic loss with additive gradient noise.

    $$L(w) = \tfrac12 (w-m)^\top H (w-m), \qquad g = H(w-m) + \xi, \quad \xi \sim N(0, C/b).$$

    Args:
        hessian: H, a D x D matrix or a length-D diagonal, positive semi-definite.
        noise_covariance: C, the covariance of ONE example's gradient (a batch of b has C/b); same forms.
        minimum: m, shape (D,); None means 0.

    Raises:
        ValueError: a matrix is not symmetric, not positive semi-definite, or of the wrong shape.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.Quadratic(hessian=[1.0, 0.5], noise_covariance=[1.0, 1.0])
        >>> float(problem.loss(problem.minimum))
        0.0
    """

    hessian_operator: Any
    noise_covariance: Any
    minimum: Any

    def __init__(self, hessian: Any, noise_covariance: Any, minimum: Any = None):
        operator = _checks.positive_semidefinite("hessian", hessian)
        dimension = operator.shape[0]
        set_field(
            self,
            hessian_operator=operator,
            noise_covariance=_checks.positive_semidefinite("noise_covariance", noise_covariance, dimension),
            minimum=np.zeros(dimension) if minimum is None else _checks.vector("minimum", minimum, dimension),
        )

    def __repr__(self) -> str:
        parts = (self.hessian_operator, self.noise_covariance, self.minimum)
        return "Quadratic(hessian={}, noise_covariance={}, minimum={})".format(*map(summary, parts))

    @property
    def dimension(self) -> int:
        """Number of parameters D."""
        return self.hessian_operator.shape[-1]

    @property
    def n_examples(self) -> None:
        """None: a population problem."""

    @property
    def default_start(self) -> Any:
        """The minimum."""
        return self.minimum

    def _deviation(self, w: Any) -> Any:
        return w - self.minimum.reshape((-1,) + (1,) * (w.ndim - 1))

    def loss(self, w: Any) -> Any:
        """1/2 (w-m)' H (w-m), shape of `w` without its first axis."""
        d = self._deviation(w)
        return 0.5 * inner(d, apply(self.hessian_operator, d))

    def test_loss(self, w: Any) -> Any:
        """The same as `loss`: there is nothing else to generalise to."""
        return self.loss(w)

    def gradient(self, w: Any) -> Any:
        """H (w-m)."""
        return apply(self.hessian_operator, self._deviation(w))

    def hessian(self, w: Any = None) -> Any:
        """H, shape (D, D)."""
        return as_matrix(self.hessian_operator, self.dimension)

    def example_gradient(self, w: Any, example: Any) -> Any:
        """H (w-m) + xi, where the example is its noise vector xi ~ N(0, C), shape (D,)."""
        return self.gradient(w) + example
