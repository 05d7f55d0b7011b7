"""The tail index of any SGD with multiplicative noise: where the moments of products of step matrices stop growing."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from sgdsim import _checks
from sgdsim.solver.noise import GaussianNoise
from sgdsim.solver.setting import Setting, describe
from sgdsim.solver.step_matrices import StepLaw, draw_pull, never_expands, step_law

REPLICATES = 16  # independent particle systems: the error bar is their spread
_CEILING = 400.0  # particles see nothing of what makes larger indices
_ENOUGH = 10.0  # effective particles a replicate below which an error bar is not believed
_SPREAD = 1.0  # of ln(product): beyond, its mean cannot be corrected to second order
_PILOT = (8, 128, 40)


@dataclasses.dataclass(frozen=True)
class TailIndexEstimate:
    """A tail index with its error.

    Attributes:
        index: kappa; 0 where no stationary law exists, infinite where every moment exists.
        stderr: its standard error, from independent replicates; 0 where the index is exact (see `method`) and
            infinite where it is not to be trusted.
        lyapunov: the top Lyapunov exponent lim (1/n) ln |M_n...M_1|, below 0 iff a stationary law exists.
        reliable: whether the particles saw what makes the index: enough of them carry the weight, the
            replicates agree, and the root was found.
        effective: the smallest effective number of particles of a replicate, averaged over the steps.
        method: "particles", "no step expands" or "additive noise"; the latter two are exact.
    """

    index: float
    stderr: float
    lyapunov: float
    reliable: bool
    effective: float
    method: str


class Growth(NamedTuple):
    """ln E |M_n...M_1 v|^kappa / n and its derivative in kappa, by replicate; and the effective particles."""

    rate: np.ndarray
    slope: np.ndarray
    spread: np.ndarray
    effective: float


def tail_index_growth(
    problem: Any,
    optimizer: Any,
    *,
    batch_size: int,
    sampling: str | None = None,
    particles: int = 512,
    steps: int = 100,
    seed: int = 0,
    tolerance: float = 0.01,
) -> TailIndexEstimate:
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
        A `TailIndexEstimate`. Its error is honest up to kappa about 50 for isotropic Gaussian inputs and about 10
        with momentum or data; beyond, `reliable` says what to think of it.

    Raises:
        ValueError: an argument is out of range or the loss has no minimum.
        NotImplementedError: there is no theory for this problem, optimizer or sampling.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.DatasetRegression(features=[[1.0], [2.0]], targets=[1.0, -1.0])
        >>> from sgdsim.solver import tail_index_growth
        >>> tail_index_growth(problem, ss.SGD(0.2), batch_size=1).index  # |1 - 0.2 x^2| < 1 for both rows
        inf
    """
    particles = _checks.integer("particles", particles, low=16)
    steps = _checks.integer("steps", steps, low=10)
    seed = _checks.integer("seed", seed, low=0)
    tolerance = _checks.positive("tolerance", tolerance, "try 0.01")
    setting = describe(problem, optimizer, batch_size, sampling)
    return estimate(setting, particles=particles, steps=steps, seed=seed, tolerance=tolerance)


def estimate(setting: Setting, *, particles: int, steps: int, seed: int, tolerance: float) -> TailIndexEstimate:
    """`tail_index_growth` of a described setting."""
    radius = setting.dynamics.step_radius(setting.rate)
    if setting.feedback.silent or never_expands(setting):
        method = "additive noise" if setting.feedback.silent else "no step expands"
        index = np.inf if radius < 1 else 0.0
        return TailIndexEstimate(index, 0.0, float(np.log(radius)), True, float(particles), method)
    law, rng = step_law(setting), np.random.default_rng(seed)
    still = grow(law, setting.rate, 0.0, REPLICATES, particles, steps, rng)
    lyapunov, error = float(still.slope.mean()), float(still.slope.std(ddof=1) / np.sqrt(REPLICATES))
    bend = float(still.spread.mean())  # the second derivative at 0
    if lyapunov >= 0 and bend == 0:  # every particle grows alike
        return TailIndexEstimate(0.0, 0.0, lyapunov, True, still.effective, "particles")
    if lyapunov >= -3 * error:  # on the line, as far as can be seen: the parabola of the growth rate at 0
        index = max(0.0, -2 * lyapunov / bend)
        near = 2 * error / bend if lyapunov < 3 * error else 0.0
        return TailIndexEstimate(index, near, lyapunov, True, still.effective, "particles")
    power = _start(setting, lyapunov, bend)
    for _ in range(20):
        pilot = grow(law, setting.rate, power, *_PILOT, rng)
        new = _newton(power, pilot)
        if new > _CEILING:
            return TailIndexEstimate(np.inf, np.inf, lyapunov, False, pilot.effective, "particles")
        done, power = abs(new - power) < 0.1 * power, new
        if done:
            break
    return _refine(law, setting.rate, power, lyapunov, rng, particles, steps, tolerance)


def _refine(
    law: StepLaw, rate: float, power: float, lyapunov: float, rng: np.random.Generator, particles: int, steps: int,
    tolerance: float,
) -> TailIndexEstimate:
    """Newton steps from a power near the root, until one is within its error; then rounds until it is small."""
    index, stderr, runs = power, np.inf, []
    settled = False
    for _ in range(8):
        runs.append(grow(law, rate, power, REPLICATES, particles, steps, rng))
        pooled = Growth(
            np.concatenate([run.rate for run in runs]),
            np.concatenate([run.slope for run in runs]),
            np.concatenate([run.spread for run in runs]),
            min(run.effective for run in runs),
        )
        index = _newton(power, pooled)
        spread = float(pooled.rate.std(ddof=1) * steps)
        # Of the mean logarithm, and of the half variance that corrects it.
        variance = spread**2 / len(pooled.rate) + spread**4 / (2 * (len(pooled.rate) - 1))
        stderr = float(np.sqrt(variance) / steps / max(pooled.slope.mean(), 1e-300))
        if abs(index - power) > max(3 * stderr, 0.02 * power):
            power, runs = index, []
            continue
        settled = True
        if stderr <= tolerance * index or len(runs) == 4:
            break
    slope_error = pooled.slope.std(ddof=1) / np.sqrt(len(pooled.slope))
    steep = pooled.slope.mean() > 5 * slope_error
    reliable = settled and steep and pooled.effective >= _ENOUGH and spread < _SPREAD and index < _CEILING
    return TailIndexEstimate(index, stderr if reliable else np.inf, lyapunov, bool(reliable), pooled.effective,
                             "particles")


def _start(setting: Setting, lyapunov: float, bend: float) -> float:
    """The root of a parabola with the right slope at 0 and, where second moments settle, their growth at 2."""
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


def grow(
    law: StepLaw, rate: float, power: float, replicates: int, particles: int, steps: int, rng: np.random.Generator
) -> Growth:
    """Follow weighted particles: the growth rate of E |M_n...M_1 v|^power."""
    burn_in = forgetting_steps(law, rate)
    state = law.start(rng, replicates, particles)
    log_weight = np.zeros((replicates, particles))
    travelled = np.zeros((replicates, particles))  # ln |M_n...M_1 v| along each line of descent
    total, effective = np.zeros(replicates), np.zeros(replicates)
    for step in range(burn_in + steps):
        if step == burn_in:
            travelled[:] = 0
        pull, log_ratio = draw_pull(law, state[..., : law.rank], rng, power)
        state = law.step(state, pull, rate)
        norm = np.linalg.norm(state, axis=-1)
        state /= np.maximum(norm, 1e-300)[..., None]
        size = np.log(np.maximum(norm, 1e-300))
        travelled += size
        if power == 0:
            continue
        log_weight += power * size + log_ratio
        peak = log_weight.max(axis=1, keepdims=True)
        weight = np.exp(log_weight - peak)
        mean = weight.mean(axis=1)
        # The weights keep a mean of one after each step.
        log_weight -= peak + np.log(mean)[:, None]
        count = weight.sum(axis=1) ** 2 / np.sum(weight**2, axis=1)
        if step >= burn_in:
            total += peak[:, 0] + np.log(mean)
            effective += count / steps
        if count.min() < particles / 2:
            picked = _systematic(weight, rng)
            state = np.take_along_axis(state, picked[..., None], 1)
            travelled = np.take_along_axis(travelled, picked, 1)
            log_weight = np.zeros((replicates, particles))
    chance = np.exp(log_weight)
    chance /= chance.sum(axis=1, keepdims=True)
    slope = np.sum(chance * travelled, axis=1)
    spread = np.sum(chance * (travelled - slope[:, None]) ** 2, axis=1) / steps
    if power == 0:
        return Growth(total, slope / steps, spread, float(particles))
    # ln of a mean from the mean of logarithms: to second order, half their variance.
    correction = total.var(ddof=1) / 2
    return Growth((total + correction) / steps, slope / steps, spread, float(effective.min()))


def forgetting_steps(law: StepLaw, rate: float) -> int:
    """How long to wait until directions have forgotten their start: four times the slowest mean decay, 20 to 300."""
    identity = np.eye(law.rank * (2 if law.momentum else 1))
    mean = law.noise.second_moment if isinstance(law.noise, GaussianNoise) else law.noise.gram
    step = law.step(identity, identity[:, : law.rank] @ mean, rate)
    radius = float(np.abs(np.linalg.eigvals(step)).max())
    return int(np.clip(-4 / np.log(min(max(radius, 1e-9), 1 - 1e-9)), 20, 300))


def _systematic(weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which particles survive, as often as their weight says, with one random number a replicate."""
    replicates, particles = weight.shape
    edges = np.cumsum(weight, axis=1)
    edges /= edges[:, -1:]
    points = (np.arange(particles) + rng.random((replicates, 1))) / particles
    offset = np.arange(replicates)[:, None]
    found = np.searchsorted((edges + offset).ravel(), (points + offset).ravel()).reshape(weight.shape)
    return np.clip(found - offset * particles, 0, particles - 1)
