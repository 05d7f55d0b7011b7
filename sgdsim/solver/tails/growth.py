"""How fast moments of products of step matrices grow: weighted particles, multiplied and resampled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sgdsim.solver.tails.step_matrices import StepLaw, draw_pull


class Growth(NamedTuple):
    """ln E |M_n...M_1 v|^kappa / n and its derivative in kappa, by replicate; and the effective particles."""

    rate: np.ndarray
    slope: np.ndarray
    spread: np.ndarray
    effective: float


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
    step = law.step(identity, identity[:, : law.rank] @ law.noise.data_hessian, rate)
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
