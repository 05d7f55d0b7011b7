"""Adam."""

from __future__ import annotations

from sgdsim._specs import spec, static
from sgdsim._types import Scalar, Schedule
from sgdsim.optimizers.adaptive import MomentScaled, identity


@spec
class Adam(MomentScaled):
    r"""Adam; the conventions of optax (and, with eps_root = 0, of PyTorch).

    $$m \leftarrow \beta_1 m + (1-\beta_1) g, \quad v \leftarrow \beta_2 v + (1-\beta_2) g^2, \quad
      w \leftarrow w - \lambda \frac{\hat m}{\sqrt{\hat v + \epsilon_{root}} + \epsilon}.$$

    m^ = m / (1 - beta_1^t) and v^ = v / (1 - beta_2^t) with bias correction (t = 1 at the first step), m and v
    without. The correction fades within 1/(1-beta_2) steps: the stationary law is the same with and without it.

    Args:
        learning_rate: lambda > 0, or a schedule from the step (0, 1, ...) to a rate.
        b1: beta_1 in [0, 1); m is an average (EMA), not heavy ball.
        b2: beta_2 in [0, 1).
        eps: epsilon >= 0, added to the root.
        eps_root: epsilon_root >= 0, added under the root: papers with sqrt(v + epsilon) mean eps=0 and this one.
        bias_correction: whether moments are corrected for their start at 0.

    Raises:
        ValueError: an argument is outside its range.

    Examples:
        >>> import sgdsim as ss
        >>> float(ss.Adam(learning_rate=0.01).b2)
        0.999
    """

    learning_rate: Scalar | Schedule
    b1: Scalar = 0.9
    b2: Scalar = 0.999
    eps: Scalar = 1e-8
    eps_root: Scalar = 0.0
    bias_correction: bool = static(default=True)

    V = staticmethod(identity)
