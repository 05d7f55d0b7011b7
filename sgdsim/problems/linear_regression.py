"""Population linear regression with Gaussian inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdsim import _checks
from sgdsim._types import apply, as_matrix, inner, set_field, spec
from sgdsim.problems._decay import check_decay, penalty


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

    covariance: Any
    teacher: Any
    label_noise: Any
    input_noise: Any
    weight_decay: Any
    # derived once, on the host, in float64
    second_moment: Any
    effective_teacher: Any
    residual_variance: Any
    minimum: Any

    def __init__(
        self,
        covariance: Any,
        teacher: Any = None,
        label_noise: float = 0.0,
        input_noise: Any = None,
        weight_decay: Any = 0.0,
    ):
        a = _checks.positive_semidefinite("covariance", covariance)
        dimension = a.shape[0]
        u = np.zeros(dimension) if teacher is None else _checks.vector("teacher", teacher, dimension)
        sigma = _checks.non_negative("label_noise", label_noise, "it is a standard deviation: pass |sigma|")
        b = None if input_noise is None else _checks.positive_semidefinite("input_noise", input_noise, dimension)
        gamma = check_decay(weight_decay, dimension)
        if b is None:
            k, seen, hidden = a, u, 0.0
        else:
            k = a + b if a.ndim == b.ndim else as_matrix(a, dimension) + as_matrix(b, dimension)
            seen = np.linalg.lstsq(as_matrix(k, dimension), apply(a, u), rcond=None)[0]
            hidden = max(0.0, float(u @ apply(a, u - seen)))
        hessian = as_matrix(k, dimension) + as_matrix(gamma, dimension)
        set_field(
            self,
            covariance=a,
            teacher=u,
            label_noise=np.float64(sigma),
            input_noise=b,
            weight_decay=gamma,
            second_moment=k,
            effective_teacher=seen,
            residual_variance=np.float64(sigma**2 + hidden),
            minimum=seen if not gamma.any() else np.linalg.lstsq(hessian, apply(a, u), rcond=None)[0],
        )

    @property
    def dimension(self) -> int:
        """Number of parameters D."""
        return self.covariance.shape[-1]

    @property
    def n_examples(self) -> None:
        """None: a population problem."""

    @property
    def default_start(self) -> Any:
        """The origin."""
        return np.zeros(self.dimension)

    def _from(self, w: Any, origin: Any) -> Any:
        return w - origin.reshape((-1,) + (1,) * (w.ndim - 1))

    def loss(self, w: Any) -> Any:
        """Expected training loss, shape of `w` without its first axis."""
        d = self._from(w, self.effective_teacher)
        return 0.5 * (inner(d, apply(self.second_moment, d)) + self.residual_variance) + penalty(
            self.weight_decay, w
        )

    def test_loss(self, w: Any) -> Any:
        """1/2 (w-u)' A (w-u): clean inputs, clean labels, no penalty."""
        d = self._from(w, self.teacher)
        return 0.5 * inner(d, apply(self.covariance, d))

    def gradient(self, w: Any) -> Any:
        """K (w - u_eff) + Gamma w."""
        return apply(self.second_moment, self._from(w, self.effective_teacher)) + apply(self.weight_decay, w)

    def hessian(self, w: Any = None) -> Any:
        """K + Gamma, shape (D, D)."""
        return as_matrix(self.second_moment, self.dimension) + as_matrix(self.weight_decay, self.dimension)

    def example_gradient(self, w: Any, example: Any) -> Any:
        """X (x'w - y) + Gamma w for one example (x, y) as the learner sees it."""
        x, y = example
        return x * (x @ w - y) + apply(self.weight_decay, w)
