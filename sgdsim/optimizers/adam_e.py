"""AdamE: a family from SGD to Adam and beyond, by the power of the second moment."""

from __future__ import annotations

import numpy as np

from sgdsim import _checks
from sgdsim._specs import set_field, spec, static
from sgdsim._types import Scalar, Schedule
from sgdsim.optimizers.adaptive import InversePower, MomentScaled, check_moments, identity


@spec
class AdamE(MomentScaled):
    r"""Adam with another power of the second moment ("Slow dynamics of Adam", section 5).

    $$w \leftarrow w - \lambda \frac{\hat m}{(\hat v + \epsilon_{root})^{\rho} + \epsilon},$$

    with m and v as in `Adam`. The exponent rho is 1/2 for Adam. At 0 nothing is adaptive any more: the step is that
    of `SGD(lambda (1 - beta_1) / (1 + epsilon), beta_1)` (but for the bias correction of m).

    Args:
        learning_rate: lambda > 0, or a schedule from the step (0, 1, ...) to a rate.
        b1: beta_1 in [0, 1); m is an average (EMA), not heavy ball.
        b2: beta_2 in [0, 1).
        eps: epsilon >= 0, added to the power.
        exponent: rho in [0, 1); the paper calls it lambda.
        eps_root: epsilon_root >= 0, added under the power.
        bias_correction: whether moments are corrected for their start at 0.
        weight_decay: gamma, decoupled as in `AdamW`; None is 0.

    Raises:
        ValueError: an argument is outside its range.

    Examples:
        >>> import sgdsim as ss
        >>> float(ss.AdamE(learning_rate=0.01, exponent=0.25).exponent)
        0.25
    """

    learning_rate: Scalar | Schedule
    b1: Scalar = 0.9
    b2: Scalar = 0.999
    eps: Scalar = 1e-8
    exponent: Scalar = 0.5
    eps_root: Scalar = 0.0
    bias_correction: bool = static(default=True)
    weight_decay: Scalar | None = None

    V = staticmethod(identity)

    def __post_init__(self) -> None:
        exponent = _checks.fraction("exponent", self.exponent, "0.5 is Adam, 0 is SGD")
        set_field(self, **check_moments(self), exponent=np.asarray(exponent))

    @property
    def S(self) -> InversePower:
        """What multiplies the step, as a function of v."""
        return InversePower(self.eps, self.eps_root, self.exponent)
