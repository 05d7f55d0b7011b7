"""RMSProp: Adam without the average of gradients."""

from __future__ import annotations

import numpy as np

from sgdsim import _checks
from sgdsim._specs import set_field, spec, static
from sgdsim._types import Scalar, Schedule
from sgdsim.optimizers.adaptive import MomentScaled, check_decoupled, check_epsilons, identity
from sgdsim.optimizers.base import check_learning_rate


@spec
class RMSProp(MomentScaled):
    r"""RMSProp.

    $$v \leftarrow \beta_2 v + (1-\beta_2) g^2, \qquad
      w \leftarrow w - \lambda \frac{g}{\sqrt{\hat v + \epsilon_{root}} + \epsilon}.$$

    The defaults are those of PyTorch (`alpha` = 0.99, epsilon outside the root, v^ = v). `optax.rmsprop` has 0.9
    and epsilon under the root: `RMSProp(rate, b2=0.9, eps=0, eps_root=1e-8)`.

    Args:
        learning_rate: lambda > 0, or a schedule from the step (0, 1, ...) to a rate.
        b2: beta_2 in [0, 1), optax's `decay`.
        eps: epsilon >= 0, added to the root.
        eps_root: epsilon_root >= 0, added under the root.
        bias_correction: whether v^ = v / (1 - beta_2^t); the stationary law does not depend on it.
        weight_decay: gamma, decoupled as in `AdamW`; None is 0.

    Raises:
        ValueError: an argument is outside its range.

    Examples:
        >>> import sgdsim as ss
        >>> float(ss.RMSProp(learning_rate=0.01).b2)
        0.99
    """

    learning_rate: Scalar | Schedule
    b2: Scalar = 0.99
    eps: Scalar = 1e-8
    eps_root: Scalar = 0.0
    bias_correction: bool = static(default=False)
    weight_decay: Scalar | None = None

    b1 = None
    V = staticmethod(identity)

    def __post_init__(self) -> None:
        set_field(
            self,
            learning_rate=check_learning_rate(self.learning_rate),
            b2=np.asarray(_checks.fraction("b2", self.b2, "0.99 is common")),
            bias_correction=_checks.flag("bias_correction", self.bias_correction),
            weight_decay=check_decoupled(self.weight_decay),
            **check_epsilons(self),
        )
