"""The noisy ellipse: a curve of minima in the plane, some of them flatter than others."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import set_field, spec, static
from sgdsim._types import ArrayT, backend_of
from sgdsim.problems.parts.residuals import Residuals, check_label_noise


@spec
class Ellipse(Residuals):
    r"""Two parameters whose minima are an ellipse with axes along the diagonals, under label noise.

    $$\ell = \tfrac12 (f(x, y) - \delta)^2, \qquad f = \frac{(x+y)^2}{2a^2} + \frac{(x-y)^2}{2b^2} - 1, \qquad
      L = \tfrac12 f^2 + \tfrac12 \sigma^2 .$$

    There is one example, seen with a new delta each time; a batch has the mean of b independent ones.

    Args:
        a: half the axis along x = y.
        b: half the axis along x = -y.
        label_noise: the STANDARD DEVIATION sigma of delta.
        noise: "sign" for delta = +-sigma with equal chances, "gaussian" for N(0, sigma^2).

    Raises:
        ValueError: an axis is not positive, the noise is negative, or its law unknown.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.Ellipse(a=2.0, b=1.0)
        >>> [round(float(x), 5) for x in problem.minimum]
        [1.41421, 1.41421]
        >>> round(float(problem.angle(problem.point(0.3))), 12)
        0.3

    Source: the noisy ellipse of "Slow dynamics of Adam" (paper 004), section 3. Its printed formula is garbled in
    the scan available here; this reading puts SGD's limit at the tips, as its figure 1 does.
    """

    a: float
    b: float
    label_noise: float
    noise: str = static()

    def __init__(self, a: float, b: float, label_noise: float = 0.5, noise: str = "sign"):
        sigma, law = check_label_noise(label_noise, noise)
        axes = {"a": _checks.positive("a", a), "b": _checks.positive("b", b)}
        set_field(self, **{name: np.float64(axis) for name, axis in axes.items()}, label_noise=sigma, noise=law)

    @property
    def dimension(self) -> int:
        """2: x and y."""
        return 2

    @property
    def n_examples(self) -> None:
        """None: the label noise is a population, the one example is not drawn."""

    @property
    def minimum(self) -> np.ndarray:  # type: ignore[override]
        """The end (a, a)/sqrt(2) of the axis along x = y: one of the minima, the flattest where a > b."""
        return self.point(0.0)

    @property
    def default_start(self) -> np.ndarray:
        """The minimum at angle 1: neither an end of an axis nor on a coordinate axis."""
        return self.point(1.0)

    def point(self, angle: ArrayLike) -> np.ndarray:
        """The minimum (u + v, u - v)/sqrt(2), u = a cos(angle), v = b sin(angle); shape (2, ...)."""
        backend = backend_of(angle, self.a)
        u, v = self.a * backend.cos(angle), self.b * backend.sin(angle)
        return backend.stack([u + v, u - v]) / 2**0.5

    def angle(self, w: ArrayT) -> ArrayT:
        """The angle of `point` in (-pi, pi], of any w (2, ...) but the centre."""
        return backend_of(w, self.a).arctan2((w[0] - w[1]) / self.b, (w[0] + w[1]) / self.a)

    def residuals(self, w: ArrayT) -> ArrayT:
        """f, shape (1, ...)."""
        return ((w[0] + w[1]) ** 2 / (2 * self.a**2) + (w[0] - w[1]) ** 2 / (2 * self.b**2) - 1)[None]

    def vjp(self, w: ArrayT, weights: ArrayT) -> ArrayT:
        """The gradient of f times weights."""
        along, across = (w[0] + w[1]) / self.a**2, (w[0] - w[1]) / self.b**2
        return backend_of(w, weights, self.a).stack([along + across, along - across]) * weights

    def residual_hessian(self, w: ArrayT, weights: ArrayT) -> ArrayT:
        """The constant Hessian of f times weights."""
        even, odd = 1 / self.a**2 + 1 / self.b**2, 1 / self.a**2 - 1 / self.b**2
        backend = backend_of(weights, self.a)
        return weights[0] * backend.stack([backend.stack([even, odd]), backend.stack([odd, even])])
