"""Population linear regression with Gaussian inputs."""

from __future__ import annotations

from typing import Self

import numpy as np
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import derived, set_field, spec
from sgdsim._types import AnyArray, ArrayT, Matrix, apply, as_matrix, backend_of, inner, matmul
from sgdsim.problems.parts.least_squares import solve_symmetric
from sgdsim.problems.parts.weight_decay import check_decay, is_zero, penalty


@spec
class LinearRegression:
    r"""Linear regression on fresh Gaussian examples (online: every batch is new).

    $$x \sim N(0, A), \quad \tilde x = x + N(0, B), \quad y = u^\top x + N(0, \sigma^2), \qquad
      L(w) = \tfrac12 E(w^\top \tilde x - y)^2 + \tfrac12 w^\top \Gamma w.$$

    In law this is regression on inputs of covariance K = A + B with teacher K^{-1} A u and residual
    variance sigma^2 + u'(A - A K^{-1} A)u, which is how the kernels and the solver see it.

    Args:
        covariance: A, a D x D matrix or a length-D diagonal, positive semi-definite.
        teacher: u, shape (D,); None means 0.
        label_noise: the STANDARD DEVIATION sigma, not the variance.
        input_noise: B, same forms as `covariance`; None means none.
        weight_decay: Gamma, a scalar, a length-D diagonal or a symmetric matrix; may be negative.

    Raises:
        ValueError: a matrix is not symmetric or positive semi-definite, or shapes do not match.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
        >>> float(problem.loss(problem.minimum))  # the label noise that no model removes: sigma^2 / 2
        0.125
    """

    covariance: np.ndarray
    teacher: np.ndarray
    label_noise: float
    input_noise: np.ndarray | None
    weight_decay: np.ndarray

    def __init__(
        self,
        covariance: ArrayLike,
        teacher: ArrayLike | None = None,
        label_noise: float = 0.0,
        input_noise: ArrayLike | None = None,
        weight_decay: ArrayLike = 0.0,
    ):
        a = _checks.positive_semidefinite("covariance", covariance)
        dimension = a.shape[0]
        u = np.zeros(dimension) if teacher is None else _checks.vector("teacher", teacher, dimension)
        sigma = _checks.non_negative("label_noise", label_noise, "it is a standard deviation: pass |sigma|")
        b = None if input_noise is None else _checks.positive_semidefinite("input_noise", input_noise, dimension)
        gamma = check_decay(weight_decay, dimension)
        set_field(self, covariance=a, teacher=u, label_noise=np.float64(sigma), input_noise=b, weight_decay=gamma)

    @classmethod
    def power_law(cls, dimension: int, capacity: float, source: float, label_noise: float = 0.0) -> Self:
        r"""Curvatures and signal that fall like powers: the setting of scaling laws.

        $$k_i = i^{-a}, \qquad u_i^2 k_i = i^{-c}, \qquad i = 1, \dots, D.$$

        Args:
            dimension: D.
            capacity: a, how fast the curvatures fall.
            source: c, how fast the share of the loss along each direction falls; above 1 it stays finite as D grows.
            label_noise: the STANDARD DEVIATION sigma.

        Raises:
            ValueError: an argument is out of range.

        Examples:
            >>> import sgdsim as ss
            >>> problem = ss.LinearRegression.power_law(1000, capacity=1.5, source=2.0)
            >>> round(float(problem.test_loss(problem.default_start)), 3)  # half of 1 + 1/4 + 1/9 + ...
            0.822
        """
        i = np.arange(1.0, _checks.integer("dimension", dimension) + 1)
        a, c = (_checks.non_negative(name, x, "try 1.5") for name, x in (("capacity", capacity), ("source", source)))
        return cls(i**-a, i ** ((a - c) / 2), label_noise)

    @derived
    def input_second_moment(self) -> np.ndarray:
        """K = A + B, a length-D diagonal or a D x D matrix."""
        a, b = self.covariance, self.input_noise
        if b is None:
            return a
        return a + b if a.ndim == b.ndim else as_matrix(a, self.dimension) + as_matrix(b, self.dimension)

    @derived
    def effective_teacher(self) -> np.ndarray:
        """K^{-1} A u, shape (D,)."""
        if self.input_noise is None:
            return self.teacher
        k = as_matrix(self.input_second_moment, self.dimension)
        return solve_symmetric(k, apply(self.covariance, self.teacher))

    @derived
    def residual_variance(self) -> float:
        """Variance of what the effective teacher does not explain: sigma^2 + u'(A - A K^{-1} A)u."""
        if self.input_noise is None:
            return self.label_noise**2
        hidden = matmul(self.teacher, apply(self.covariance, self.teacher - self.effective_teacher))
        return self.label_noise**2 + backend_of(hidden).maximum(hidden, 0.0)

    @derived
    def minimum(self) -> np.ndarray:
        """The minimiser of the training loss, shape (D,)."""
        if is_zero(self.weight_decay):
            return self.effective_teacher
        return solve_symmetric(self.hessian(), apply(self.covariance, self.teacher))

    @property
    def dimension(self) -> int:
        """Number of parameters D."""
        return self.covariance.shape[-1]

    @property
    def n_examples(self) -> None:
        """None: a population problem."""

    @property
    def default_start(self) -> np.ndarray:
        """The origin."""
        return np.zeros(self.dimension)

    def _from(self, w: ArrayT, origin: np.ndarray) -> ArrayT:
        return w - origin.reshape((-1,) + (1,) * (w.ndim - 1))

    def loss(self, w: ArrayT) -> ArrayT:
        """Expected training loss, shape of `w` without its first axis."""
        d = self._from(w, self.effective_teacher)
        return 0.5 * (inner(d, apply(self.input_second_moment, d)) + self.residual_variance) + penalty(
            self.weight_decay, w
        )

    def test_loss(self, w: ArrayT) -> ArrayT:
        """1/2 (w-u)' A (w-u): clean inputs, clean labels, no penalty."""
        d = self._from(w, self.teacher)
        return 0.5 * inner(d, apply(self.covariance, d))

    def gradient(self, w: ArrayT) -> ArrayT:
        """K (w - u_eff) + Gamma w."""
        return apply(self.input_second_moment, self._from(w, self.effective_teacher)) + apply(self.weight_decay, w)

    def hessian(self, w: AnyArray | None = None) -> Matrix:
        """K + Gamma, shape (D, D)."""
        return as_matrix(self.input_second_moment, self.dimension) + as_matrix(self.weight_decay, self.dimension)

    def example_gradient(self, w: ArrayT, example: PyTree) -> ArrayT:
        """X (x'w - y) + Gamma w for one example (x, y) as the learner sees it."""
        x, y = example
        return x * (x @ w - y) + apply(self.weight_decay, w)
