"""The tail index of any SGD with multiplicative noise: where the moments of products of step matrices stop growing."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from sgdsim import _checks
from sgdsim._tail_index import TailIndex, interval
from sgdsim.optimizers.base import Optimizer
from sgdsim.problems.base import Problem
from sgdsim.solver.stationary.linearized import LinearizedSGD, linearize
from sgdsim.solver.tails.growth import Growth, grow
from sgdsim.solver.tails.step_matrices import StepLaw, never_expands, step_law

REPLICATES = 16  # independent particle systems: the error bar is their spread
_CEILING = 400.0  # particles see nothing of what makes larger indices
_ENOUGH = 10.0  # effective particles a replicate below which an error bar is not believed
_SPREAD = 1.0  # of ln(product): beyond, its mean cannot be corrected to second order
_ANNIHILATED = -500.0  # a mean logarithm that only norms of 0 have, which count as 1e-300
_PILOT = (8, 128, 40)


@dataclasses.dataclass(frozen=True)
class ComputedTailIndex(TailIndex):
    """A tail index from the step matrices, and how it was found.

    Attributes:
        value: kappa; 0 where no stationary law exists, infinite where every moment exists.
        stderr: its standard error, from independent replicates; 0 where the index is exact (see `method`).
        low: lower end of its 95 % interval.
        high: upper end.
        lyapunov: the top Lyapunov exponent lim (1/n) ln |M_n...M_1|, below 0 iff a stationary law exists.
        effective: the smallest effective number of particles of a replicate, averaged over the steps.
        method: "particles"; or, exact, "quadrature", "enumeration", "no step expands" or "additive noise".
    """

    lyapunov: float
    effective: float
    method: str


class Effort(NamedTuple):
    """How hard to try: directions in each of the 16 systems, steps counted, relative standard error asked for."""

    particles: int
    steps: int
    tolerance: float


def tail_index_by_particles(
    problem: Problem,
    optimizer: Optimizer,
    *,
    batch_size: int,
    sampling: str | None = None,
    particles: int = 512,
    steps: int = 100,
    seed: int = 0,
    tolerance: float = 0.01,
) -> ComputedTailIndex:
    r"""The tail index for any covariance, momentum, preconditioner, weight decay and data set.

    $$\Lambda(\kappa) = \lim_{n\to\infty} \frac1n \ln E \| M_n \cdots M_1 \|^\kappa = 0, \qquad \kappa > 0,$$

    with M the random step matrices. Plain averages of products fail: they are made by rare events. Instead particles
    (directions) are multiplied by M, weighted by |M v|^kappa and resampled; Gaussian batches are drawn
    from a mixture in which the large ones that matter are common, and corrected. 16 independent systems give the
    error; Newton's method the root.

    Args:
        problem: a Quadratic, LinearRegression or DatasetRegression.
        optimizer: as for `predict`.
        batch_size: S >= 1.
        sampling: as for `predict`.
        particles: directions in each of the 16 systems.
        steps: length n of the products, counted after the directions have forgotten their start.
        seed: of the random numbers.
        tolerance: relative standard error asked for; up to 4 rounds are averaged to reach it.

    Returns:
        A `ComputedTailIndex`. Its error is honest up to kappa about 50 for isotropic Gaussian inputs and about 10
        with momentum or data.

    Raises:
        ValueError: an argument is out of range or the loss has no minimum.
        NotImplementedError: there is no theory for this problem, optimizer or sampling.
        NotConverged: the particles do not see what makes the index: too few of them carry the weight, the replicates
            do not agree, or no root was found below 400; `reached` is what they say.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.DatasetRegression(features=[[1.0], [2.0]], targets=[1.0, -1.0])
        >>> from sgdsim.solver.tails import tail_index_by_particles
        >>> tail_index_by_particles(problem, ss.SGD(0.2), batch_size=1).value  # |1 - 0.2 x^2| < 1 for both rows
        inf
    """
    particles = _checks.integer("particles", particles, low=16)
    steps = _checks.integer("steps", steps, low=10)
    seed = _checks.integer("seed", seed, low=0)
    tolerance = _checks.positive("tolerance", tolerance, "try 0.01")
    setting = linearize(problem, optimizer, batch_size, sampling)
    return estimate(setting, Effort(particles, steps, tolerance), seed)


def estimate(setting: LinearizedSGD, effort: Effort, seed: int) -> ComputedTailIndex:
    """`tail_index_by_particles` of a described setting."""
    particles = effort.particles
    radius = setting.dynamics.step_radius(setting.rate)
    if setting.feedback.silent or never_expands(setting):
        method = "additive noise" if setting.feedback.silent else "no step expands"
        index = np.inf if radius < 1 else 0.0
        with np.errstate(divide="ignore"):  # a step that ends at the minimum
            return ComputedTailIndex(index, 0.0, index, index, float(np.log(radius)), float(particles), method)
    law, rng = step_law(setting), np.random.default_rng(seed)
    still = grow(law, setting.rate, 0.0, REPLICATES, particles, effort.steps, rng)
    lyapunov, error = float(still.slope.mean()), float(still.slope.std(ddof=1) / np.sqrt(REPLICATES))
    if lyapunov < _ANNIHILATED:  # some step ends at the minimum exactly, and none leaves it
        lyapunov, error = -np.inf, 0.0
    bend = float(still.spread.mean())  # the second derivative at 0
    if lyapunov >= 0 and bend == 0:  # every particle grows alike
        return _found(0.0, 0.0, lyapunov, still.effective)
    if lyapunov >= -3 * error:  # on the line, as far as can be seen: the parabola of the growth rate at 0
        index = max(0.0, -2 * lyapunov / bend)
        near = 2 * error / bend if lyapunov < 3 * error else 0.0
        return _found(index, near, lyapunov, still.effective)
    power = _start(setting, lyapunov, bend)
    for _ in range(20):
        pilot = grow(law, setting.rate, power, *_PILOT, rng)
        new = _newton(power, pilot)
        if new > _CEILING:
            raise _unseen(f"it is beyond {_CEILING:g}", _found(new, np.nan, lyapunov, pilot.effective))
        done, power = abs(new - power) < 0.1 * power, new
        if done:
            break
    return _refine(law, setting.rate, power, lyapunov, rng, effort)


def _found(index: float, stderr: float, lyapunov: float, effective: float) -> ComputedTailIndex:
    return ComputedTailIndex(index, stderr, *interval(index, stderr), lyapunov, effective, "particles")


def _unseen(reason: str, reached: ComputedTailIndex) -> _checks.NotConverged:
    return _checks.NotConverged(f"particles do not see the tail index ({reason}); raise particles or steps", reached)


def _refine(
    law: StepLaw, rate: float, power: float, lyapunov: float, rng: np.random.Generator, effort: Effort
) -> ComputedTailIndex:
    """Newton steps from a power near the root, until one is within its error; then rounds until it is small."""
    index, stderr, rounds = power, np.inf, []
    settled, steps = False, effort.steps
    for _ in range(8):
        rounds.append(grow(law, rate, power, REPLICATES, effort.particles, steps, rng))
        pooled = Growth(
            np.concatenate([one.rate for one in rounds]),
            np.concatenate([one.slope for one in rounds]),
            np.concatenate([one.spread for one in rounds]),
            min(one.effective for one in rounds),
        )
        index = _newton(power, pooled)
        spread = float(pooled.rate.std(ddof=1) * steps)
        # Of the mean logarithm, and of the half variance that corrects it.
        variance = spread**2 / len(pooled.rate) + spread**4 / (2 * (len(pooled.rate) - 1))
        stderr = float(np.sqrt(variance) / steps / max(pooled.slope.mean(), 1e-300))
        if abs(index - power) > max(3 * stderr, 0.02 * power):
            power, rounds = index, []
            continue
        settled = True
        if stderr <= effort.tolerance * index or len(rounds) == 4:
            break
    found = _found(index, stderr, lyapunov, pooled.effective)
    slope_error = pooled.slope.std(ddof=1) / np.sqrt(len(pooled.slope))
    faults = {
        "Newton's steps do not settle": not settled,
        "the growth rate is flat within its error": pooled.slope.mean() <= 5 * slope_error,
        f"{pooled.effective:.1f} of them carry the weight": pooled.effective < _ENOUGH,
        "replicates do not agree": spread >= _SPREAD,
        f"it is beyond {_CEILING:g}": index >= _CEILING,
    }
    for fault, holds in faults.items():
        if holds:
            raise _unseen(fault, found)
    return found


def _start(setting: LinearizedSGD, lyapunov: float, bend: float) -> float:
    """The root of a parabola with the right slope at 0 and, where second moments settle, their growth at 2."""
    if not np.isfinite(lyapunov):
        return 1.0
    if setting.feedback.settles(setting.rate):
        second = np.log(setting.feedback.second_moment_radius(setting.rate))
        if second > 2 * lyapunov + 1e-12:
            return float(np.clip(-4 * lyapunov / (second - 2 * lyapunov), 2.0, 60.0))
        return 20.0
    return float(np.clip(-2 * lyapunov / bend, 0.02, 2.0))


def _newton(power: float, growth: Growth) -> float:
    slope = float(growth.slope.mean())
    if slope <= 0 or growth.rate.mean() < -slope * power:  # left of the root, perhaps far: the way is up
        return 2 * power
    return float(np.clip(power - growth.rate.mean() / slope, power / 3, power * 3))
