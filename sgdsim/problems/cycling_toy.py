"""Thirteen losses that minibatch SGD runs round for ever."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdsim._specs import spec
from sgdsim._types import ArrayT, backend_of
from sgdsim.problems.parts.residuals import Residuals


@spec
class CyclingToy(Residuals):
    r"""Thirteen examples on which SGD circles $x^2 + y^2 = 1$ and settles nowhere.

    Parameters (x, y, z_1, z_2, z_3, z_4), losses $\tfrac12 f_i^2$ with

    $$f_{1,2} = (1-y) z_1 \mp 1,\ f_{3,4} = (1+y) z_2 \mp 1,\ f_{5,6} = (1-x) z_3 \mp 1,\ f_{7,8} = (1+x) z_4 \mp 1,$$

    $$f_9 = (1-x) z_1,\ f_{10} = (1+x) z_2,\ f_{11} = (1+y) z_3,\ f_{12} = (1-y) z_4,\ f_{13} = x^2 + y^2 - 1 .$$

    All noise is that of drawing examples; there is none on the labels. At z = 0 the loss does not depend on the
    angle, the noise does: each z_i fluctuates with a variance that depends on it, and the point on the circle moves
    towards less curvature in the directions that fluctuate. As f_1 to f_8 are $\mp 1$ at z = 0, the least loss is
    4/13, not 0.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.CyclingToy()
        >>> round(13 * float(problem.loss(problem.minimum)), 12)
        4.0

    Source: "Label noise SGD provably prefers flat global minimizers" (paper 003), appendix F.2, equations 198 to 201.
    They are read as printed: drawn uniformly, one or more at a time, from (1, 0, 0, 0, 0, 0). This gives the curvatures
    13 H_1 = 2(1-y)^2 + (1-x)^2 and so on, and a turn of 10/117 eta^2 per step at the start, counter-clockwise as the
    paper says (section B5 of the theory sheet). The paper gives neither learning rate nor number of steps.
    """

    @property
    def label_noise(self) -> float:  # type: ignore[override]
        """0: fresh noise on the labels is not part of this problem."""
        return 0.0

    @property
    def noise(self) -> str:  # type: ignore[override]
        """The law of that noise of size 0."""
        return "sign"

    @property
    def dimension(self) -> int:
        """6: x, y and four z."""
        return 6

    @property
    def n_examples(self) -> int:
        """13."""
        return 13

    @property
    def minimum(self) -> np.ndarray:  # type: ignore[override]
        """(1, 0, 0, 0, 0, 0): one of the circle of minima."""
        return np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])

    @property
    def default_start(self) -> np.ndarray:
        """(1, 0, 0, 0, 0, 0), as in the paper."""
        return self.minimum

    def point(self, angle: ArrayLike) -> np.ndarray:
        """The minimum (cos(angle), sin(angle), 0, 0, 0, 0); shape (6, ...)."""
        backend = backend_of(angle)
        still = backend.zeros_like(backend.cos(angle))
        return backend.stack([backend.cos(angle), backend.sin(angle), still, still, still, still])

    def angle(self, w: ArrayT) -> ArrayT:
        """The angle of (x, y) in (-pi, pi], for w (6, ...)."""
        return backend_of(w).arctan2(w[1], w[0])

    def residuals(self, w: ArrayT) -> ArrayT:
        """f_1, ..., f_13, shape (13, ...)."""
        x, y, z1, z2, z3, z4 = w
        twins = [(1 - y) * z1, (1 + y) * z2, (1 - x) * z3, (1 + x) * z4]
        f = [value for twin in twins for value in (twin - 1, twin + 1)]
        f += [(1 - x) * z1, (1 + x) * z2, (1 + y) * z3, (1 - y) * z4, x**2 + y**2 - 1]
        return backend_of(w).stack(f)

    def vjp(self, w: ArrayT, weights: ArrayT) -> ArrayT:
        """J' weights."""
        x, y, z1, z2, z3, z4 = w
        f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13 = weights
        return backend_of(w, weights).stack([
            z4 * (f7 + f8) - z3 * (f5 + f6) + z2 * f10 - z1 * f9 + 2 * x * f13,
            z2 * (f3 + f4) - z1 * (f1 + f2) + z3 * f11 - z4 * f12 + 2 * y * f13,
            (1 - y) * (f1 + f2) + (1 - x) * f9,
            (1 + y) * (f3 + f4) + (1 + x) * f10,
            (1 - x) * (f5 + f6) + (1 + y) * f11,
            (1 + x) * (f7 + f8) + (1 - y) * f12,
        ])

    def residual_hessian(self, w: ArrayT, weights: ArrayT) -> ArrayT:
        """Each f_i but the last is bilinear in x or y and one z."""
        f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13 = weights
        o = 0.0 * f13
        mixed: list[list[ArrayT]] = [[-f9, f10, -f5 - f6, f7 + f8], [-f1 - f2, f3 + f4, f11, -f12]]
        rows = [[2 * f13, o, *mixed[0]], [o, 2 * f13, *mixed[1]]]
        rows += [[mixed[0][k], mixed[1][k], o, o, o, o] for k in range(4)]
        backend = backend_of(weights)
        return backend.stack([backend.stack(row) for row in rows])
