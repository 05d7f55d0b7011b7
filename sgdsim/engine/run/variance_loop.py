"""Run the plan of a `gradient_variance`: one batch size after the other, and merge the rows of all blocks."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from sgdsim.engine.plan.devices import place, precision, replicate
from sgdsim.engine.plan.hosts import fetch
from sgdsim.engine.plan.passes import make_units, start_states
from sgdsim.engine.plan.plan_variance import VariancePlan
from sgdsim.engine.run.advance import begin
from sgdsim.engine.run.progress import ProgressBar
from sgdsim.engine.run.variance_steps import NoiseFactors, Rows, measure_and_step
from sgdsim.kernels.conditional_variance import noise_factor

_TINY = np.finfo(np.float64).tiny


class Merged(NamedTuple):
    """All rows of one batch size over all blocks, float64."""

    alive: np.ndarray  # (rows,)
    mean: np.ndarray  # (rows, quantities)
    stderr: np.ndarray  # (rows, quantities)
    groups: np.ndarray  # (rows, groups)
    effective: np.ndarray  # (rows, quantities)


def run_variance(plan: VariancePlan) -> list[Merged]:
    """What each batch size measured; all of them are one compilation."""
    request, mesh, transform = plan.request, plan.mesh, plan.request.transform
    measured, length, until = np.array(request.record, np.int32), plan.segments[0].rounds, plan.segments[-1].stop
    merged = []
    with precision(request.dtype):
        shared = replicate(plan.shared, mesh)
        params, alive = place(start_states(request, plan.blocks, plan.passes[0], plan.padded), mesh)
        with ProgressBar(until * len(plan.points), "gradient variance", plan.progress) as bar:
            for j, (b, portion) in enumerate(zip(plan.sizes, plan.passes, strict=True)):
                # Its number enters the key unless random numbers are common.
                more = None if plan.common_random_numbers else b
                units = make_units(plan.points, plan.blocks.number, portion, plan.padded, request.seed, mesh, more)
                factors = (noise_factor(b, plan.problem.n_examples, plan.points[0].sampling), 1 / b)
                laws = NoiseFactors(*place([np.full(plan.padded, x, request.dtype) for x in factors], mesh))
                states = begin(shared, units, params, alive, transform=transform, mesh=mesh)
                chunks: list[Rows] = []
                for start, stop in ((segment.start, segment.stop) for segment in plan.segments):
                    wanted = measured[np.searchsorted(measured, start) : np.searchsorted(measured, stop)]
                    states, rows = measure_and_step(
                        shared, plan.moments, units, laws, states, np.int32(start), np.int32(stop),
                        np.concatenate([wanted, np.full(length + 1 - len(wanted), -1, np.int32)]),
                        groups=plan.blocks.groups, transform=transform, mesh=mesh,
                    )
                    chunks.append(jax.tree.map(lambda x, n=wanted.size: fetch(x)[: plan.blocks.number, :n], rows))
                    bar.update(j * until + stop)
                merged.append(_merge(chunks))
    return merged


def _merge(chunks: list[Rows]) -> Merged:
    """Blocks weighted by their live chains; the error is that of a mean over all chains."""
    alive, mean, scale, spread, groups, fourth = (
        np.concatenate([np.asarray(getattr(c, name), np.float64) for c in chunks], axis=1) for name in Rows._fields
    )
    total = alive.sum(axis=0)[:, None]
    usable = (alive >= 2)[:, :, None]
    weight = np.where(usable, alive[:, :, None], 0) / np.maximum(np.where(usable, alive[:, :, None], 0).sum(axis=0), 1)
    with np.errstate(over="ignore", invalid="ignore"):
        one = scale**2 * spread / np.maximum(alive, 1)[:, :, None]
        error = np.sqrt((weight**2 * np.where(usable, one, 0)).sum(axis=0))
        unit = np.where(usable, scale / np.maximum(scale.max(axis=0), _TINY), 0)
        second = (unit**2 * spread * np.maximum(alive - 1, 0)[:, :, None]).sum(axis=0)
        carrying = np.minimum(second**2 / np.maximum((unit**4 * fourth).sum(axis=0), _TINY), total)
        value = (weight * np.where(usable, mean, 0)).sum(axis=0)
    none = ~usable.any(axis=0)
    grouped = np.moveaxis(groups, 0, 1).reshape(len(total), -1)
    return Merged(total[:, 0], np.where(none, np.nan, value), np.where(none, np.inf, error), grouped,
                  np.where(second > 0, carrying, total))
