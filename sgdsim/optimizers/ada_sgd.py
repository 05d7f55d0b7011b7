"""AdaSGD: one second moment for all parameters."""

from __future__ import annotations

import jax.numpy as jnp

from sgdsim._specs import spec, static
from sgdsim._types import Params, Scalar, Schedule
from sgdsim.optimizers.adaptive import MomentScaled


def overall_mean(squares: Params) -> Params:
    """V of AdaSGD: the mean over all parameters of a chain, given back to every one."""
    return jnp.broadcast_to(squares.mean(axis=0), squares.shape)


@spec
class AdaSGD(MomentScaled):
    r"""SGD whose rate is scaled by the mean of all squared gradients: `AdamMini` with one block.

    $$v \leftarrow \beta_2 v + (1-\beta_2) \tfrac1D \sum_j g_j^2, \qquad
      w_i \leftarrow w_i - \lambda \frac{\hat m_i}{\sqrt{\hat v + \epsilon_{root}} + \epsilon}.$$

    All parameters have one rate, so that its slow dynamics has the minima of SGD's.

    Args:
        learning_rate: lambda > 0, or a schedule from the step (0, 1, ...) to a rate.
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
        >>> float(ss.AdaSGD(0.01).b2)
        0.999

    Source: section 4 of paper 004 ("Slow dynamics of Adam"), after Wang and Wiens (2020).
    """

    learning_rate: Scalar | Schedule
    b1: Scalar = 0.9
    b2: Scalar = 0.999
    eps: Scalar = 1e-8
    eps_root: Scalar = 0.0
    bias_correction: bool = static(default=True)
    weight_decay: Scalar | None = None

    V = staticmethod(overall_mean)
