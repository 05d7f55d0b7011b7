"""Adam-mini: one second moment for each block of parameters."""

from __future__ import annotations

from typing import Any

from sgdsim._specs import set_field, spec, static
from sgdsim._types import Scalar, Schedule
from sgdsim.optimizers.adaptive import BlockMean, MomentScaled, check_blocks, check_moments, labels_of


@spec
class AdamMini(MomentScaled):
    r"""Adam whose second moment is the mean over a block B of parameters (Adam-mini).

    $$v_B \leftarrow \beta_2 v_B + (1-\beta_2) \tfrac1{|B|} \sum_{j \in B} g_j^2, \qquad
      w_i \leftarrow w_i - \lambda \frac{\hat m_i}{\sqrt{\hat v_{B(i)} + \epsilon_{root}} + \epsilon}.$$

    The mean is over the parameters of one chain, never over chains. Blocks of one parameter give `Adam`.

    Args:
        learning_rate: lambda > 0, or a schedule from the step (0, 1, ...) to a rate.
        blocks: a list of lists of parameter numbers 0 to D - 1, each number in exactly one of them.
        b1: beta_1 in [0, 1); m is an average (EMA), not heavy ball.
        b2: beta_2 in [0, 1).
        eps: epsilon >= 0, added to the root.
        eps_root: epsilon_root >= 0, added under the root.
        bias_correction: whether moments are corrected for their start at 0.
        weight_decay: gamma, decoupled as in `AdamW`; None is 0.

    Raises:
        ValueError: an argument is outside its range, or the blocks are no partition.

    Examples:
        >>> import sgdsim as ss
        >>> ss.AdamMini(0.01, blocks=[[0, 2], [1]]).dimension
        3
    """

    learning_rate: Scalar | Schedule
    blocks: Any = static()
    b1: Scalar = 0.9
    b2: Scalar = 0.999
    eps: Scalar = 1e-8
    eps_root: Scalar = 0.0
    bias_correction: bool = static(default=True)
    weight_decay: Scalar | None = None

    def __post_init__(self) -> None:
        set_field(self, **check_moments(self), blocks=check_blocks("blocks", self.blocks))

    @property
    def dimension(self) -> int:
        """The number of parameters in all blocks."""
        return sum(map(len, self.blocks))

    @property
    def V(self) -> BlockMean:
        """The mean of squared gradients over each block."""
        return BlockMean(labels_of(self.blocks))
