"""The tail index of a setting, by the route that fits it."""

from __future__ import annotations

import numpy as np

from sgdsim import _checks
from sgdsim._tail_index import TailIndex
from sgdsim.solver.stationary.linearized import LinearizedSGD
from sgdsim.solver.tails.enumeration import scalar_exponent, scalar_index, scalar_steps
from sgdsim.solver.tails.isotropic import isotropic_exponent, isotropic_index
from sgdsim.solver.tails.particles import ComputedTailIndex, Effort, estimate
from sgdsim.solver.tails.step_matrices import isotropic_step

_CAREFUL, _QUICK = Effort(512, 100, 0.01), Effort(128, 40, 0.2)


def tail_index_of(setting: LinearizedSGD, quick: bool = False) -> TailIndex:
    """By quadrature for isotropic step matrices, by enumeration for scalar ones of a data set, else by particles.

    Particles are few where `quick`. Where particles see nothing, what is known is on which side of 2 it lies.
    """
    scalar = scalar_steps(setting)
    if scalar is not None:
        index, exponent = scalar_index(*scalar, setting.rate), scalar_exponent(*scalar, setting.rate)
        return ComputedTailIndex(index, 0.0, index, index, exponent, np.inf, "enumeration")
    step = isotropic_step(setting)
    if step is not None:
        arguments = isotropic_arguments(setting, *step)
        index, exponent = float(isotropic_index(*arguments)[0]), float(isotropic_exponent(*arguments)[0])
        return ComputedTailIndex(index, 0.0, index, index, exponent, np.inf, "quadrature")
    try:
        return estimate(setting, _QUICK if quick else _CAREFUL, seed=0)
    except _checks.NotConverged:
        return TailIndex.between(2.0, np.inf) if setting.feedback.settles(setting.rate) else TailIndex.between(0.0, 2.0)


def beyond(index: TailIndex) -> str:
    """What is left where the second moment does not exist, in words."""
    if index.value == 0:
        return "no stationary law exists there"
    return f"a stationary law of infinite variance still exists there, of tail index {index}"


def isotropic_arguments(setting: LinearizedSGD, curvature: float, centre: float) -> tuple[np.ndarray, ...]:
    """The arguments of `isotropic_index`, each of shape (1,)."""
    rank = len(setting.dynamics.curvatures)
    return tuple(np.array([value], np.float64) for value in (curvature, setting.batch_size, rank, centre))
