"""Adafactor: second moments of rank one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from sgdsim import _checks
from sgdsim._specs import set_field, spec, static
from sgdsim._types import Params, Scalar, Schedule
from sgdsim.optimizers.adaptive import InverseRoot, MomentScaled, check_moments, identity


@spec
class FactoredRoot:
    """S(v) = 1 / (sqrt(rows x columns of v / sum) + eps) for each matrix: an entry depends on its row and column."""

    eps: Scalar
    eps_root: Scalar
    shapes: tuple[tuple[int, ...], ...] = static()

    def __call__(self, v: Params) -> Params:
        """S(v), the shape of `v`."""
        cuts = np.cumsum([math.prod(shape) for shape in self.shapes])
        if cuts[-1] != len(v):
            raise _checks.error("shapes", self.shapes, f"of {len(v)} parameters in all, like the problem",
                                "give the shape of every array")
        parts = [_of_rank_one(part, shape) for part, shape in zip(jnp.split(v, cuts[:-1]), self.shapes, strict=True)]
        return InverseRoot(self.eps, self.eps_root)(jnp.concatenate(parts))


def _of_rank_one(v: Params, shape: tuple[int, ...]) -> Params:
    if len(shape) == 1:
        return v
    matrix = v.reshape(*shape, *v.shape[1:])
    rows, columns = matrix.mean(axis=1, keepdims=True), matrix.mean(axis=0, keepdims=True)
    mean = rows.mean(axis=0, keepdims=True)
    return (rows * (columns / jnp.where(mean > 0, mean, 1.0))).reshape(v.shape)  # 0: it never had a gradient


@spec
class Adafactor(MomentScaled):
    r"""Adam whose second moment of each matrix is the product of its row and its column sums.

    $$\hat v_{ij} = \frac{\big(\sum_{j'} v_{ij'}\big)\big(\sum_{i'} v_{i'j}\big)}{\sum_{i'j'} v_{i'j'}}, \qquad
      w_{ij} \leftarrow w_{ij} - \lambda \frac{\hat m_{ij}}{\sqrt{\hat v_{ij} + \epsilon_{root}} + \epsilon},$$

    v the average of squared gradients as in `Adam`. Row and column sums of an average are averages of row and column
    sums, so that the steps are those of the algorithm that keeps the sums alone. It is algorithm 2 of Shazeer and
    Stern: no clipping of updates, no steps relative to the weights. S mixes parameters: `slow_ode` and `slow_sde` know
    it, the stationary law and the fixed point do not.

    Args:
        learning_rate: lambda > 0, or a schedule from the step (0, 1, ...) to a rate.
        shapes: the shape of each array of parameters, (rows, columns) or (size,), in the order of the parameters;
            (size,) is not factored.
        b1: beta_1 in [0, 1); the algorithm as published carries no m.
        b2: beta_2 in [0, 1).
        eps: epsilon >= 0, added to the root.
        eps_root: epsilon_root >= 0, added under the root.
        bias_correction: whether moments are corrected for their start at 0.
        weight_decay: gamma, decoupled as in `AdamW`; None is 0.

    Raises:
        ValueError: an argument is outside its range.

    Examples:
        >>> import sgdsim as ss
        >>> ss.Adafactor(0.01, shapes=[(2, 3), (2,)]).dimension
        8

    Source: section 4 of paper 004 ("Slow dynamics of Adam"), its footnote 1.
    """

    learning_rate: Scalar | Schedule
    shapes: Any = static()
    b1: Scalar = 0.0
    b2: Scalar = 0.999
    eps: Scalar = 1e-8
    eps_root: Scalar = 0.0
    bias_correction: bool = static(default=True)
    weight_decay: Scalar | None = None

    V = staticmethod(identity)

    def __post_init__(self) -> None:
        remedy = "such as [(10, 100), (10,)]"
        listed = isinstance(self.shapes, list | tuple) and len(self.shapes)
        if not listed or any(np.ndim(shape) != 1 or not 1 <= len(shape) <= 2 for shape in self.shapes):
            raise _checks.error("shapes", self.shapes, "a list of (rows, columns) and (size,)", remedy)
        sizes = tuple(tuple(_checks.integer("shapes", size, remedy=remedy) for size in shape) for shape in self.shapes)
        set_field(self, **check_moments(self), shapes=sizes)

    @property
    def dimension(self) -> int:
        """The number of parameters in all arrays."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def S(self) -> Callable[[Params], Params]:
        """What multiplies the step, as a function of v; not elementwise."""
        return FactoredRoot(self.eps, self.eps_root, self.shapes)


def mixes_parameters(optimizer: object) -> bool:
    """Whether S of an adaptive optimizer is not elementwise."""
    return isinstance(optimizer, Adafactor)
