"""Label flips: what label noise is for a binary classifier."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import scipy
from jaxtyping import Array

from sgdsim import _checks


class LabelFlip(NamedTuple):
    """Constants of a loss under label flips.

    Attributes:
        margin: c, the output y f(x) at a global minimum.
        noise_variance: sigma^2, variance of the slope of the loss there.
        curvature: alpha, second derivative of the smoothed loss there; the Hessian is alpha G.
    """

    margin: float
    noise_variance: float
    curvature: float


def label_flip_constants(loss: str | Callable[[Array], Array], flip: float) -> LabelFlip:
    r"""Where a classifier with flipped labels settles, and how strong the noise is there (Table 1).

    The labels y = +-1 are flipped with probability p at every step, so that the expected loss of an example with margin
    x = y f is $\bar l(x) = p\, l(-x) + (1-p)\, l(x)$. With its minimum c, $\sigma^2 = p(1-p)(l'(c) + l'(-c))^2$ and
    $\alpha = \bar l''(c)$:

    | loss | l(x) | c | sigma^2 | alpha |
    |---|---|---|---|---|
    | logistic | log(1 + exp(-x)) | log((1-p)/p) | p(1-p) | p(1-p) |
    | exponential | exp(-x) | log((1-p)/p)/2 | 1 | 2 (p(1-p))^(1/2) |
    | square | (x-1)^2/2 | 1-2p | 4p(1-p) | 1 |

    The regulariser is `label_noise_regularizer(H, eta, curvature=alpha)` at strength lambda = eta sigma^2 / B.

    Args:
        loss: "logistic", "exponential", "square", or a convex function l of the margin, traceable by JAX.
        flip: p, strictly between 0 and 1; beyond 1/2 the margin is negative.

    Raises:
        ValueError: the loss is not one of these, or p is out of range.

    Examples:
        >>> from sgdsim.solver.manifold import label_flip_constants
        >>> [round(x, 10) for x in label_flip_constants("logistic", 0.2)]
        [1.3862943611, 0.16, 0.16]

    Source: Damian, Ma and Lee, Table 1 and appendix E.2.
    """
    p = _checks.between_0_and_1("flip", flip, "0.2 is the paper's")
    variance = p * (1 - p)
    if callable(loss):
        return _of_any_loss(loss, p)
    _checks.choice("loss", loss, ("logistic", "exponential", "square"))
    if loss == "logistic":
        return LabelFlip(math.log((1 - p) / p), variance, variance)
    if loss == "exponential":
        return LabelFlip(math.log((1 - p) / p) / 2, 1.0, 2 * math.sqrt(variance))
    return LabelFlip(1 - 2 * p, 4 * variance, 1.0)


def _of_any_loss(loss: Callable[[Array], Array], p: float) -> LabelFlip:
    """From the derivatives of a convex loss, its minimum by bisection between margins that bracket it."""
    with jax.enable_x64(True):
        slope = jax.grad(loss)
        smoothed = jax.jit(lambda x: (1 - p) * slope(x) - p * slope(-x))
        bend = jax.grad(lambda x: (1 - p) * slope(x) - p * slope(-x))
        reach = 1.0
        while not smoothed(-reach) < 0 < smoothed(reach):
            reach *= 2
            if reach > 1e3:
                raise _checks.error("loss", loss, "convex in the margin, with a minimum under flipped labels",
                                    "try 'logistic'")
        c = scipy.optimize.brentq(lambda x: float(smoothed(x)), -reach, reach, xtol=1e-15, rtol=1e-14)
        both = float(slope(c) + slope(-c))
        return LabelFlip(c, p * (1 - p) * both**2, float(bend(c)))
