"""Two limits of the learning rate over batch sizes: of a finite variance, and of any stationary law at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Vector
from sgdsim.optimizers.base import Optimizer
from sgdsim.problems.base import Problem
from sgdsim.solver.stationary.linearized import LinearizedSGD, linearize
from sgdsim.solver.tails.enumeration import scalar_limit, scalar_steps
from sgdsim.solver.tails.isotropic import isotropic_exponent
from sgdsim.solver.tails.step_matrices import StepLaw, draw_pull, isotropic_step, step_law
from sgdsim.solver.tails.tail import isotropic_arguments

CHAINS, STEPS = 256, 400


@dataclasses.dataclass(frozen=True, eq=False)
class StabilityLimit:
    """Learning rates, one for each batch size.

    Attributes:
        batch_sizes: S, shape (n,).
        max_learning_rate: at and above it the second moment does not exist (exact), shape (n,).
        almost_sure: from it on there is no stationary law: the top Lyapunov exponent of the step matrices is not
            negative, shape (n,). (On data sets one may exist again near a larger rate that ends at the minimum.)
        almost_sure_stderr: its standard error; 0 where it is exact: by quadrature (isotropic Gaussian inputs), by
            enumeration (data sets with one moving direction, few batches) or equal to an exact limit, (n,).
    """

    batch_sizes: np.ndarray
    max_learning_rate: Vector
    almost_sure: Vector
    almost_sure_stderr: Vector


def stability_limit(
    problem: Problem,
    optimizer: Optimizer,
    *,
    batch_size: ArrayLike,
    sampling: str | None = None,
    chains: int = CHAINS,
    steps: int = STEPS,
    seed: int = 0,
) -> StabilityLimit:
    r"""Where the second moment stops existing, and where stationarity itself does.

    $$\rho(E[M \otimes M]) = 1 \qquad \text{and} \qquad \lim_{n\to\infty} \frac1n \ln \| M_n \cdots M_1 \| = 0$$

    in the learning rate, at the optimizer's preconditioner and momentum. Between the two, SGD settles into a law of
    infinite variance, of tail index below 2.

    Args:
        problem: a Quadratic, LinearRegression or DatasetRegression.
        optimizer: as for `predict`; its learning rate is not used.
        batch_size: S, one or several whole numbers >= 1.
        sampling: as for `predict`.
        chains: independent products of step matrices, where the second limit has to be simulated.
        steps: their length; a fifth as much goes before.
        seed: of the random numbers, the same at every learning rate.

    Returns:
        A `StabilityLimit`.

    Raises:
        ValueError: an argument is out of range or the loss has no minimum.
        NotImplementedError: there is no theory for this problem, optimizer or sampling.

    Examples:
        >>> import sgdsim as ss
        >>> from sgdsim.solver.limits import stability_limit
        >>> limits = stability_limit(ss.LinearRegression([1.0], label_noise=1.0), ss.SGD(0.1), batch_size=[1, 4])
        >>> limits.max_learning_rate.round(6).tolist(), limits.almost_sure.round(6).tolist()
        ([0.666667, 1.333333], [2.42125, 2.662996])
    """
    sizes = np.atleast_1d(np.asarray(batch_size))
    if sizes.ndim != 1 or not sizes.size:
        raise _checks.error("batch_size", batch_size, "a list of whole numbers >= 1", "try [1, 10, 100]")
    chains = _checks.integer("chains", chains, low=16)
    steps = _checks.integer("steps", steps, low=10)
    seed = _checks.integer("seed", seed, low=0)
    settings = [linearize(problem, optimizer, size, sampling) for size in sizes.tolist()]
    highest = [setting.limit() for setting in settings]
    found = [almost_sure_limit(s, m, chains, steps, seed) for s, m in zip(settings, highest, strict=True)]
    limits, errors = np.array(found).T
    return StabilityLimit(sizes, np.array(highest), limits, errors)


def almost_sure_limit(
    setting: LinearizedSGD, highest: float, chains: int = CHAINS, steps: int = STEPS, seed: int = 0
) -> tuple[float, float]:
    """The learning rate at which the Lyapunov exponent crosses zero, and its standard error."""
    if setting.feedback.silent or not 0 < highest < np.inf:
        return highest, 0.0
    scalar = scalar_steps(setting)
    if scalar is not None:
        return scalar_limit(*scalar, highest), 0.0
    isotropic = isotropic_step(setting)
    if isotropic is None:
        return _by_chains(step_law(setting), highest, chains, steps, seed)
    slope, decay = isotropic[0] / setting.rate, (1 - isotropic[1]) / setting.rate

    def exponent(rate: float) -> float:
        return float(isotropic_exponent(*isotropic_arguments(setting, rate * slope, 1 - rate * decay))[0])

    if exponent(highest) >= 0:  # both limits are one, to rounding
        return highest, 0.0
    return float(scipy.optimize.brentq(exponent, highest, _above(exponent, highest),
                                       xtol=1e-12 * highest, rtol=1e-12)), 0.0


def _above(exponent: Callable[[float], float], low: float) -> float:
    """A learning rate at which the exponent is positive, from the first of a ladder."""
    high = 1.05 * low
    while exponent(high) <= 0:
        high *= 1.15
    return high


def _by_chains(law: StepLaw, highest: float, chains: int, steps: int, seed: int) -> tuple[float, float]:
    """With the same random numbers at every rate: the exponent is nearly smooth in it, and its root is found."""

    def exponent(rate: float) -> float:
        return float(lyapunov_exponents(law, rate, chains, steps, seed).mean())

    high = _above(exponent, highest)
    root = highest
    if exponent(highest) < 0:
        root = float(scipy.optimize.brentq(exponent, highest, high, xtol=1e-5 * highest))
    width = 0.02 * root
    slope = (exponent(root + width) - exponent(root - width)) / (2 * width)
    spread = float(lyapunov_exponents(law, root, chains, steps, seed).std(ddof=1))
    return root, spread / np.sqrt(chains) / abs(slope)


def lyapunov_exponents(law: StepLaw, rate: float, chains: int, steps: int, seed: int) -> Vector:
    """(1/n) ln |M_n...M_1 v| of each chain, after it has forgotten its start."""
    rng = np.random.default_rng(seed)
    state = law.start(rng, chains)
    total = np.zeros(chains)
    burn_in = steps // 5
    for step in range(burn_in + steps):
        state = law.step(state, draw_pull(law, state[:, : law.rank], rng)[0], rate)
        norm = np.maximum(np.linalg.norm(state, axis=1), 1e-300)
        state /= norm[:, None]
        if step >= burn_in:
            total += np.log(norm)
    return total / steps
