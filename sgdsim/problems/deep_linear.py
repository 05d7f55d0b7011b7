"""Linear networks of any depth, taught by another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import set_field, spec
from sgdsim.problems.parts.linear_layers import LinearLayers, check_chain, check_layer


@spec
class DeepLinear(LinearLayers):
    r"""A linear student of any depth, online on Gaussian inputs.

    $$x \sim N(0, I_p), \quad y = W_L^* \cdots W_1^* x + \sigma \varepsilon, \qquad
      L(W_1, \dots, W_L) = \tfrac12 E \|W_L \cdots W_1 x - y\|^2 = \tfrac12 \|W_L \cdots W_1 - T\|_F^2
      + \tfrac12 p_L \sigma^2 .$$

    The parameters are one vector (D,): W_1 row by row, then W_2, and so on; `flatten` and `unflatten` convert.

    Args:
        teachers: [W_1^*, ..., W_L^*], from the input to the output; W_l^* has shape (p_l, p_{l-1}).
        label_noise: the STANDARD DEVIATION sigma of the noise on each of the p_L outputs.

    Raises:
        ValueError: a teacher is not a matrix, shapes do not chain, or a value is not finite.

    Examples:
        >>> import numpy as np, sgdsim as ss
        >>> problem = ss.DeepLinear([np.ones((3, 2)), np.ones((3, 3)), np.ones((1, 3))])
        >>> problem.dimension, problem.shapes
        (18, ((3, 2), (3, 3), (1, 3)))
        >>> float(problem.loss(problem.minimum))
        0.0
    """

    teachers: tuple[np.ndarray, ...]
    label_noise: float

    def __init__(self, teachers: Sequence[ArrayLike], label_noise: float = 0.0):
        if not isinstance(teachers, Sequence) or isinstance(teachers, str) or not teachers:
            raise _checks.error("teachers", teachers, "a list of at least one matrix", "pass [W_1, ..., W_L]")
        names = [f"teachers[{l}]" for l in range(len(teachers))]
        layers = tuple(check_layer(name, layer) for name, layer in zip(names, teachers, strict=True))
        check_chain(names, layers)
        sigma = _checks.non_negative("label_noise", label_noise, "it is a standard deviation: pass |sigma|")
        set_field(self, teachers=layers, label_noise=np.float64(sigma))

    @property
    def layers(self) -> tuple[np.ndarray, ...]:
        """The teacher's matrices, from the input to the output."""
        return self.teachers
