"""AdamW."""

from __future__ import annotations

from sgdsim._specs import spec, static
from sgdsim._types import Scalar, Schedule
from sgdsim.optimizers.adaptive import MomentScaled, identity


@spec
class AdamW(MomentScaled):
    r"""Adam with decoupled weight decay; the conventions of optax and of PyTorch.

    $$w \leftarrow (1 - \lambda \gamma) w - \lambda \frac{\hat m}{\sqrt{\hat v + \epsilon_{root}} + \epsilon},$$

    with m^ and v^ as in `Adam`. The decay is no part of the gradient, so v knows nothing of it: parameters of small
    gradients decay as fast as all others. It is not `weight_decay` of a problem, which v does know.

    Args:
        learning_rate: lambda > 0, or a schedule from the step (0, 1, ...) to a rate.
        b1: beta_1 in [0, 1); m is an average (EMA), not heavy ball.
        b2: beta_2 in [0, 1).
        eps: epsilon >= 0, added to the root.
        weight_decay: gamma >= 0; PyTorch's default is 0.01, optax's 0.0001.
        eps_root: epsilon_root >= 0, added under the root.
        bias_correction: whether moments are corrected for their start at 0.

    Raises:
        ValueError: an argument is outside its range.

    Examples:
        >>> import sgdsim as ss
        >>> float(ss.AdamW(learning_rate=0.01).weight_decay)
        0.01
    """

    learning_rate: Scalar | Schedule
    b1: Scalar = 0.9
    b2: Scalar = 0.999
    eps: Scalar = 1e-8
    weight_decay: Scalar | None = 0.01
    eps_root: Scalar = 0.0
    bias_correction: bool = static(default=True)

    V = staticmethod(identity)
