"""Adalayer: one second moment for each layer of a network."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdsim import _checks
from sgdsim._specs import set_field, spec, static
from sgdsim._types import Scalar, Schedule
from sgdsim.optimizers.adaptive import BlockMean, MomentScaled, check_moments


@spec
class Adalayer(MomentScaled):
    r"""Adam whose second moment is the mean over a layer: `AdamMini` with consecutive blocks.

    $$v_l \leftarrow \beta_2 v_l + (1-\beta_2) \tfrac1{D_l} \sum_{j \in l} g_j^2, \qquad
      w_i \leftarrow w_i - \lambda \frac{\hat m_i}{\sqrt{\hat v_{l(i)} + \epsilon_{root}} + \epsilon}.$$

    The mean is over the parameters of one chain, never over chains.

    Args:
        learning_rate: lambda > 0, or a schedule from the step (0, 1, ...) to a rate.
        layers: the number of parameters of each layer, in the order of the parameters; they add up to D.
        b1: beta_1 in [0, 1); m is an average (EMA), not heavy ball.
        b2: beta_2 in [0, 1).
        eps: epsilon >= 0, added to the root.
        eps_root: epsilon_root >= 0, added under the root.
        bias_correction: whether moments are corrected for their start at 0.
        weight_decay: gamma, decoupled as in `AdamW`; None is 0.

    Raises:
        ValueError: an argument is outside its range.

    Examples:
        >>> import sgdsim as ss
        >>> ss.Adalayer(0.01, layers=[2, 1]).dimension
        3
    """

    learning_rate: Scalar | Schedule
    layers: Any = static()
    b1: Scalar = 0.9
    b2: Scalar = 0.999
    eps: Scalar = 1e-8
    eps_root: Scalar = 0.0
    bias_correction: bool = static(default=True)
    weight_decay: Scalar | None = None

    def __post_init__(self) -> None:
        if np.ndim(self.layers) != 1 or not len(self.layers):
            raise _checks.error("layers", self.layers, "a list of sizes", "such as [100, 10]")
        sizes = tuple(_checks.integer("layers", size, remedy="such as [100, 10]") for size in self.layers)
        set_field(self, **check_moments(self), layers=sizes)

    @property
    def dimension(self) -> int:
        """The number of parameters in all layers."""
        return sum(self.layers)

    @property
    def V(self) -> BlockMean:
        """The mean of squared gradients over each layer."""
        return BlockMean(tuple(number for number, size in enumerate(self.layers) for _ in range(size)))
