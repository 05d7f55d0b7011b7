"""Decide all that `gradient_variance` will do."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import jax
import numpy as np
import optax
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import cast
from sgdsim.engine.plan.blocks import Blocks, plan_blocks
from sgdsim.engine.plan.devices import check_dtype, make_mesh, precision, resolve_devices
from sgdsim.engine.plan.grid import batch_sizes, share
from sgdsim.engine.plan.passes import cut_into_passes
from sgdsim.engine.plan.plan import Plan
from sgdsim.engine.plan.request import Request, check_request
from sgdsim.engine.plan.schedule import CHUNK_NUMBERS, Segment
from sgdsim.kernels import conditional_moments, scheduled_kernel
from sgdsim.kernels.common_random_numbers import share_random_numbers
from sgdsim.kernels.conditional_variance import ConditionalMoments
from sgdsim.kernels.linear_network import chain_by_chain
from sgdsim.optimizers import Optimizer
from sgdsim.problems import Problem

# Of a chunk, which copies all states: not too few.
_CHUNK_STEPS = (8, 256)
# Parameters of a block where gradients are products of matrices, and its least number of chains: few stay in the cache.
_MATRIX_NUMBERS = 2**19
_MATRIX_CHAINS = 32
# Enough for the covariance of a few dozen batch sizes under common random numbers.
_COMMON_GROUPS = 512


@dataclasses.dataclass(frozen=True, eq=False)
class VariancePlan(Plan):
    """The plan of a `gradient_variance`: a pass for each batch size, `request.record` are the steps it measures.

    Attributes:
        sizes: the batch sizes.
        moments: what evaluates Var(g | w); None where the gradients that were drawn must do.
        common_random_numbers: whether all batch sizes have the same keys.
    """

    sizes: tuple[int, ...] = ()
    moments: ConditionalMoments | None = None
    common_random_numbers: bool = False


def plan_variance(
    problem: Problem,
    optimizer: Optimizer | optax.GradientTransformation,
    *,
    batch_size: Sequence[int] | int,
    steps: int,
    chains: int,
    initial: ArrayLike | None,
    seed: int,
    sampling: str | None,
    common_random_numbers: bool,
    record: int | Sequence[int] | None,
    dtype: DTypeLike | None,
    devices: int | Sequence[jax.Device] | None,
    progress: bool | None,
) -> VariancePlan:
    """Check every argument and decide the rest, before anything is compiled."""
    begun = time.perf_counter()
    chains = _checks.integer("chains", chains, low=4, remedy="a variance needs several chains; try chains=1000")
    request = check_request(problem, optimizer, chains=chains, steps=steps, seed=seed, initial=initial, record=record,
                            dtype=dtype)
    if record is None:
        request = request._replace(record=list(range(request.steps)))
    elif not request.record:
        raise _checks.error("record", record, "one or more steps", "None measures every step")
    grid = batch_sizes(problem, optimizer, batch_size, sampling)(request)
    kernels = [scheduled_kernel(problem, sizes, grid.sampling, request.dtype) for sizes in grid.batches]
    if common_random_numbers:
        kernels = [share_random_numbers(kernel) for kernel in kernels]
    with precision(request.dtype):
        chosen = resolve_devices(devices)
        check_dtype(chosen[0].platform, request.dtype)
        mesh = make_mesh(chosen)
        blocks = _lay_out(request, problem, chosen[0].platform, common_random_numbers)
        shared = share(problem, kernels, grid, request)
        moments = cast(conditional_moments(problem, grid.sampling), request.dtype)
        passes = cut_into_passes(len(grid.points) * blocks.number, len(grid.points))
    return VariancePlan(
        problem=problem, request=request, points=grid.points, axes={}, kernels=tuple(kernels),
        shared=shared, devices=chosen, mesh=mesh, blocks=blocks, passes=passes,
        segments=_chunks(request, chosen[0].platform), begun=begun, progress=progress,
        sizes=tuple(int(size[0]) for size in grid.batches), moments=moments,
        common_random_numbers=common_random_numbers,
    )


def _chunks(request: Request, platform: str) -> list[Segment]:
    """Steps that are taken in one go, all of them of one length but the last."""
    until = request.record[-1] + 1
    numbers = request.chains * request.dimension
    length = int(min(until, np.clip(CHUNK_NUMBERS.get(platform, CHUNK_NUMBERS["cpu"]) / numbers, *_CHUNK_STEPS)))
    return [Segment(start, min(length, until - start), 1, True, 0, False, False) for start in range(0, until, length)]


def _lay_out(request: Request, problem: Problem, platform: str, common: bool) -> Blocks:
    blocks = plan_blocks(request.chains, problem.dimension, platform)
    if platform == "cpu" and chain_by_chain(problem):
        size = max(_MATRIX_CHAINS, _MATRIX_NUMBERS // problem.dimension)
        blocks = blocks._replace(number=max(blocks.number, 2 * round(request.chains / size / 2)))
    if not common:
        return blocks._replace(groups=1, size=int(blocks.valid.max()))
    groups = max(1, min(_COMMON_GROUPS // blocks.number, int(blocks.valid.min())))
    return blocks._replace(groups=groups, size=-(-int(blocks.valid.max()) // groups) * groups)
