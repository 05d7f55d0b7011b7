"""A quadratic bowl whose gradient carries additive Gaussian noise."""

from __future__ import annotations

import numpy as np
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import data, set_field, spec
from sgdsim._types import AnyArray, ArrayT, Matrix, apply, as_matrix, inner


@spec
class Quadratic:
    r"""Quadratic loss with additive gradient noise.

    $$L(w) = \tfrac12 (w-m)^\top H (w-m), \qquad g = H(w-m) + \xi, \quad \xi \sim N(0, C/b).$$

    Args:
        hessian: H, a D x D matrix or a length-D diagonal, positive semi-definite.
        example_noise_covariance: C, the covariance of ONE example's gradient (a batch of b has C/b); same forms.
        minimum: m, shape (D,); None means 0.

    Raises:
        ValueError: a matrix is not symmetric, not positive semi-definite, or of the wrong shape.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.Quadratic(hessian=[1.0, 0.5], example_noise_covariance=[1.0, 1.0])
        >>> float(problem.loss(problem.minimum))
        0.0
    """

    hessian_operator: np.ndarray = data(alias="hessian")
    example_noise_covariance: np.ndarray
    minimum: np.ndarray

    def __init__(self, hessian: ArrayLike, example_noise_covariance: ArrayLike, minimum: ArrayLike | None = None):
        operator = _checks.positive_semidefinite("hessian", hessian)
        dimension = operator.shape[0]
        noise = _checks.positive_semidefinite("example_noise_covariance", example_noise_covariance, dimension)
        set_field(
            self,
            hessian_operator=operator,
            example_noise_covariance=noise,
            minimum=np.zeros(dimension) if minimum is None else _checks.vector("minimum", minimum, dimension),
        )

    @property
    def dimension(self) -> int:
        """Number of parameters D."""
        return self.hessian_operator.shape[-1]

    @property
    def n_examples(self) -> None:
        """None: a population problem."""

    @property
    def default_start(self) -> np.ndarray:
        """The minimum."""
        return self.minimum

    def _deviation(self, w: ArrayT) -> ArrayT:
        return w - self.minimum.reshape((-1,) + (1,) * (w.ndim - 1))

    def loss(self, w: ArrayT) -> ArrayT:
        """1/2 (w-m)' H (w-m), shape of `w` without its first axis."""
        d = self._deviation(w)
        return 0.5 * inner(d, apply(self.hessian_operator, d))

    def test_loss(self, w: ArrayT) -> ArrayT:
        """The same as `loss`: there is nothing else to generalise to."""
        return self.loss(w)

    def gradient(self, w: ArrayT) -> ArrayT:
        """H (w-m)."""
        return apply(self.hessian_operator, self._deviation(w))

    def hessian(self, w: AnyArray | None = None) -> Matrix:
        """H, shape (D, D)."""
        return as_matrix(self.hessian_operator, self.dimension)

    def example_gradient(self, w: ArrayT, example: PyTree) -> ArrayT:
        """H (w-m) + xi, where the example is its noise vector xi ~ N(0, C), shape (D,)."""
        return self.gradient(w) + example
