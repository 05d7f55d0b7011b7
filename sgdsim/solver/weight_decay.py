"""The strength of weight decay at which the test loss of SGD is least."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy

from sgdsim import _checks
from sgdsim._specs import own_settings, share_derived
from sgdsim.optimizers.base import Optimizer
from sgdsim.problems import DatasetRegression, LinearRegression
from sgdsim.solver.predict import predict
from sgdsim.solver.stationary.linearized import LinearizedSGD, linearize

_GRID = 48  # strengths tried before the best of them is refined
_FLAT = 1e-6  # how near the strength that makes the loss flat is tried, relative to the width of what is tried


@dataclasses.dataclass(frozen=True)
class OptimalWeightDecay:
    """Where the test loss is least, and between which strengths it exists.

    Attributes:
        weight_decay: the best gamma, of the penalty gamma |w|^2 / 2; may be negative.
        test_loss: the stationary test loss there.
        without: the test loss at gamma = 0; infinite where training without decay has no finite variance.
        stable: (low, high), the strengths between which the second moment exists.
    """

    weight_decay: float
    test_loss: float
    without: float
    stable: tuple[float, float]


@own_settings
def optimal_weight_decay(
    problem: LinearRegression | DatasetRegression, optimizer: Optimizer, *, batch_size: int, sampling: str | None = None
) -> OptimalWeightDecay:
    r"""The scalar decay that minimises the exact stationary test loss, in any dimension, with any momentum.

    $$\gamma^* = \arg\min_\gamma L_{test}(\gamma), \qquad
      L_{test} = \tfrac12 \mathrm{Tr}[A \Sigma_\gamma] + \tfrac12 (w_\gamma - u)^\top A (w_\gamma - u).$$

    In one dimension without label noise it is negative iff $2S/(S+2) < a\lambda < \sqrt{S/2}$ and S >= 3 [Corollary 1,
    corrected]: only where training without decay is unstable.

    The stable strengths are an interval; its ends are found by bisection, the loss by a scan of them, refined about the
    least.

    Args:
        problem: a LinearRegression or DatasetRegression; its own `weight_decay` is replaced.
        optimizer: an SGD with a constant learning rate; any momentum and preconditioner.
        batch_size: b >= 1.
        sampling: as for `predict`.

    Returns:
        An `OptimalWeightDecay`.

    Raises:
        ValueError: an argument is out of range, or no strength makes the second moment finite.
        NotImplementedError: there is no theory for this problem, optimizer or sampling.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression(covariance=[4.0], teacher=[1.0])
        >>> best = ss.solver.optimal_weight_decay(problem, ss.SGD(1.0), batch_size=64)
        >>> round(best.weight_decay, 2), best.without
        (-2.53, inf)
    """
    if not isinstance(problem, LinearRegression | DatasetRegression):
        raise NotImplementedError(
            f"{type(problem).__name__} has no weight decay with a theory; LinearRegression and DatasetRegression have"
        )

    def setting(gamma: float) -> LinearizedSGD:
        return linearize(_decayed(problem, gamma), optimizer, batch_size, sampling)

    def settles(gamma: float) -> bool:
        now = setting(gamma)
        return now.feedback.settles(now.rate)

    def growth(gamma: float) -> float:
        """Below 1 iff the second moment exists, and falling towards where it does."""
        now = setting(gamma)
        step = now.dynamics.step_radius(now.rate) ** 2
        return step if step >= 1 else max(step, now.feedback.radius(now.rate))

    def loss(gamma: float) -> float:
        return predict(_decayed(problem, gamma), optimizer, batch_size=batch_size, sampling=sampling).test_loss

    plain = setting(0.0)
    # At `flat` and below the loss has no minimum; `width` above it lambda P (A + gamma) has an eigenvalue 2 (1 + mu).
    flat = -float(np.linalg.eigvalsh(np.asarray(_decayed(problem, 0.0).hessian())).min())
    steepest = float(np.abs(np.linalg.eigvals(plain.dynamics.preconditioner)).max(initial=1e-300))
    width = 2 * (1 + plain.dynamics.momentum) / (plain.rate * steepest)
    low, high = flat + _FLAT * width, flat + width
    without = loss(0.0) if plain.feedback.settles(plain.rate) else np.inf
    inside = 0.0
    if without == np.inf:
        calmest = scipy.optimize.minimize_scalar(growth, bounds=(low, high), method="bounded",
                                                 options={"xatol": 1e-6 * width})
        inside = float(calmest.x)
        if calmest.fun >= 1:
            raise _checks.error("learning_rate", plain.rate, "such that some weight decay makes the variance finite",
                                f"lower it, or raise batch_size: at best, at a decay of {inside:.4g}, noise is still "
                                f"reproduced {calmest.fun:.4g}-fold")
    stable = _edge(settles, inside, low), _edge(settles, inside, high)
    grid = stable[0] + (stable[1] - stable[0]) * np.linspace(0, 1, _GRID + 2) ** 3  # denser where A + gamma is small
    at = 1 + int(np.argmin([loss(gamma) for gamma in grid[1:-1]]))
    best = scipy.optimize.minimize_scalar(loss, bounds=(grid[at - 1], grid[at + 1]), method="bounded",
                                          options={"xatol": 1e-9 * (stable[1] - stable[0])})
    if without <= best.fun:  # to the rounding of the loss, no decay is as good
        return OptimalWeightDecay(0.0, without, without, stable)
    return OptimalWeightDecay(float(best.x), float(best.fun), without, stable)


def _decayed(problem: LinearRegression | DatasetRegression, gamma: float) -> LinearRegression | DatasetRegression:
    decayed = dataclasses.replace(problem, weight_decay=np.asarray(gamma))
    if isinstance(problem, DatasetRegression):
        share_derived(problem, decayed, ("gram", "least_squares", "least_loss", "fourth_moments"))
    return decayed


def _edge(settles: Callable[[float], bool], stable: float, unstable: float) -> float:
    """Where the second moment stops existing between two strengths, by bisection, to nine digits of their distance."""
    close = 1e-9 * abs(unstable - stable)
    while abs(unstable - stable) > close:
        middle = (stable + unstable) / 2
        stable, unstable = (middle, unstable) if settles(middle) else (stable, middle)
    return stable
