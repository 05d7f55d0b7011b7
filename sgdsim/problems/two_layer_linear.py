"""The two-layer linear teacher-student network."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import set_field, spec
from sgdsim.problems.parts.linear_layers import LinearLayers, check_chain, check_layer


@spec
class TwoLayerLinear(LinearLayers):
    r"""A two-layer linear student of a two-layer linear teacher, online on Gaussian inputs.

    $$x \sim N(0, I_p), \quad y = W_2^* W_1^* x + \sigma \varepsilon, \qquad
      L(W_1, W_2) = \tfrac12 E \|W_2 W_1 x - y\|^2 = \tfrac12 \|W_2 W_1 - W_2^* W_1^*\|_F^2 + \tfrac12 p_2 \sigma^2 .$$

    The parameters are one vector (D,): W_1 row by row, then W_2; `flatten(W1, W2)` and `unflatten(w)` convert.

    Args:
        teacher_inner: W_1^*, shape (p_1, p).
        teacher_outer: W_2^*, shape (p_2, p_1).
        label_noise: the STANDARD DEVIATION sigma of the noise on each of the p_2 outputs.

    Raises:
        ValueError: a teacher is not a matrix, the two do not chain, or a value is not finite.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.TwoLayerLinear(teacher_inner=[[1.0, 0.5], [0.0, 1.0]], teacher_outer=[[2.0, -1.0]])
        >>> w = problem.flatten([[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0]])
        >>> float(problem.loss(w))
        1.0
        >>> problem.unflatten(w)[1].tolist()
        [[1.0, 1.0]]
    """

    teacher_inner: np.ndarray
    teacher_outer: np.ndarray
    label_noise: float

    def __init__(self, teacher_inner: ArrayLike, teacher_outer: ArrayLike, label_noise: float = 0.0):
        inner = check_layer("teacher_inner", teacher_inner)
        outer = check_layer("teacher_outer", teacher_outer)
        check_chain(["teacher_inner", "teacher_outer"], [inner, outer])
        sigma = _checks.non_negative("label_noise", label_noise, "it is a standard deviation: pass |sigma|")
        set_field(self, teacher_inner=inner, teacher_outer=outer, label_noise=np.float64(sigma))

    @property
    def layers(self) -> tuple[np.ndarray, ...]:
        """(W_1^*, W_2^*)."""
        return self.teacher_inner, self.teacher_outer
