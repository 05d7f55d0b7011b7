"""Run every block of every configuration through all segments and merge what they measured."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim._types import cast
from sgdsim.engine.advance import BlockState, Shared, Unit, advance, begin
from sgdsim.engine.blocks import Blocks, plan_blocks
from sgdsim.engine.configure import Run
from sgdsim.engine.devices import make_mesh, resolve_devices
from sgdsim.engine.progress import ProgressBar
from sgdsim.engine.quantities import quantities
from sgdsim.engine.schedule import Segment, plan_segments
from sgdsim.kernels import Kernel, kernel_table
from sgdsim.optimizers import Optimizer
from sgdsim.problems import Problem

_SNAPSHOT_CHAINS = 1024


class Configuration(NamedTuple):
    """One point of a grid: an index into the kernels and one into the optimizers."""

    kernel: int
    optimizer: int


class Measured(NamedTuple):
    """What one configuration measured."""

    halves: list[list[Any]]  # totals of each statistic over the first and the second half
    record: list[dict[str, Any]]  # quantities at each recorded step
    snapshots: np.ndarray  # (times, some chains, D)
    final: np.ndarray  # (chains, D)
    alive: np.ndarray  # (chains,)


class Ensemble(NamedTuple):
    """All configurations, how they were laid out, and how it went."""

    measured: list[Measured]
    blocks: Blocks
    devices: list[jax.Device]
    steps_done: int
    interrupted: bool
    seconds: float


def run_ensemble(
    problem: Problem,
    kernels: Sequence[Kernel],
    optimizers: Sequence[Optimizer],
    configurations: Sequence[Configuration],
    run: Run,
    devices: Any,
    progress: bool | None,
) -> Ensemble:
    """Simulate every configuration; all of them are one compilation."""
    begun = time.perf_counter()
    with precision(run.dtype):
        chosen = resolve_devices(devices)
        mesh = make_mesh(chosen)
        blocks = plan_blocks(run.chains, problem.dimension, chosen[0].platform)
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *optimizers) if optimizers else None
        shared = cast(Shared(kernel_table(kernels), stacked, problem, run.statistics), run.dtype)
        padded = -(-blocks.number * len(configurations) // len(chosen)) * len(chosen)
        units = _units(configurations, blocks, run.seed, padded)
        params, alive = start_states(run, blocks, len(configurations), padded)
        how = {"transform": run.transform, "mesh": mesh}
        states = begin(shared, units, params, alive, **how)
        collector = _Collector(run, blocks, len(configurations))
        plan = list(plan_segments(run.steps, run.burn_in, run.thin, bool(run.statistics), run.record,
                                  len(configurations) * run.chains * problem.dimension))
        done, interrupted = 0, False
        try:
            with ProgressBar(run.steps, "simulate", progress) as bar:
                for segment in plan:
                    counts = (np.int32(segment.start), np.int32(segment.rounds), np.int32(segment.inner))
                    new, sums, centre = advance(
                        shared, units, states, *counts, np.bool_(segment.measure), groups=blocks.groups, **how
                    )
                    collector.add(segment, new, sums, centre)
                    states, done = new, segment.stop
                    bar.update(done)
        except KeyboardInterrupt:
            interrupted = True
        measured = collector.finish(states)
    return Ensemble(measured, blocks, chosen, done, interrupted, time.perf_counter() - begun)


def precision(dtype: np.dtype) -> Any:
    """Double precision inside, where chains ask for it; whatever the user has set stays outside."""
    return jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()


def _units(configurations: Sequence[Configuration], blocks: Blocks, seed: int, padded: int) -> Unit:
    """Units in order of configuration, then block; padding repeats the first. Equal blocks share their key."""
    block = np.tile(np.arange(blocks.number), len(configurations))
    which = np.repeat(np.arange(len(configurations)), blocks.number)
    block, which = (np.pad(x, (0, padded - len(x))) for x in (block, which))
    table = np.array(configurations, dtype=np.int32)
    root = jax.random.key(np.uint32(seed))
    keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.asarray(block, jnp.uint32))
    return Unit(jnp.asarray(table[which, 0]), jnp.asarray(table[which, 1]), keys)


def start_states(run: Run, blocks: Blocks, configurations: int, padded: int) -> tuple[np.ndarray, np.ndarray]:
    """Starting points (units, D, size) and which chains count (units, size)."""
    alive = np.arange(blocks.size) < blocks.valid[:, None]
    shape = (blocks.number, blocks.size, run.initial.shape[-1])
    params = np.broadcast_to(run.initial if run.initial.ndim == 1 else run.initial[0], shape)
    if run.initial.ndim == 2:
        params = params.copy()
        params[alive] = run.initial
    one = np.ascontiguousarray(np.moveaxis(params, 1, 2), dtype=run.dtype)
    extra = padded - configurations * blocks.number
    params = np.concatenate([np.tile(one, (configurations, 1, 1)), one[:1].repeat(extra, axis=0)])
    return params, np.concatenate([np.tile(alive, (configurations, 1)), np.zeros((extra, blocks.size), bool)])


class _Collector:
    """Moves sums to the host after each segment and merges them in float64, in fixed order."""

    def __init__(self, run: Run, blocks: Blocks, configurations: int):
        self._run, self._blocks, self._configurations = run, blocks, configurations
        self._halves: list[list[Any]] = [[None, None] for _ in range(configurations)]
        self._record: list[list[dict[str, Any]]] = [[] for _ in range(configurations)]
        self._snapshots: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, segment: Segment, states: BlockState, sums: Any, centre: Any) -> None:
        """Take in one segment."""
        if segment.measure:
            wide = jax.tree.map(lambda leaf: np.asarray(leaf, dtype=np.float64), sums)
            centres = np.asarray(centre, dtype=np.float64)
            for c in range(self._configurations):
                totals = self._collect(c, wide, centres)
                if segment.record:
                    self._record[c].append(quantities(self._run.statistics, totals))
                else:
                    before = self._halves[c][segment.half]
                    self._halves[c][segment.half] = totals if before is None else self._merge(before, totals)
        if segment.snapshot:
            self._snapshots.append(self._some_chains(states))

    def _collect(self, configuration: int, sums: Any, centres: np.ndarray) -> list[Any]:
        count, groups = self._blocks.number, self._blocks.groups
        mine = slice(configuration * count, (configuration + 1) * count)
        flat = jax.tree.map(lambda leaf: leaf[mine].reshape(-1, *leaf.shape[2:]), sums)
        centre = np.repeat(centres[mine], groups, axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            return [s.collect(x, centre) for s, x in zip(self._run.statistics, flat, strict=True)]

    def _merge(self, a: list[Any], b: list[Any]) -> list[Any]:
        with np.errstate(over="ignore", invalid="ignore"):
            return [s.merge(x, y) for s, x, y in zip(self._run.statistics, a, b, strict=True)]

    def _some_chains(self, states: BlockState) -> tuple[np.ndarray, np.ndarray]:
        count = self._blocks.number * self._configurations
        stride = max(1, self._blocks.number // _SNAPSHOT_CHAINS)
        each = min(int(self._blocks.valid.min()), max(1, _SNAPSHOT_CHAINS * stride // self._blocks.number))
        # Sliced on the host: a slice of a sharded array is a program of its own.
        params = np.asarray(states.params)[:count:stride, :, :each].astype(np.float64)
        alive = np.asarray(states.alive)[:count:stride, :each]
        shape = (self._configurations, -1)
        return np.moveaxis(params, 1, 2).reshape(*shape, params.shape[1]), alive.reshape(shape)

    def finish(self, states: BlockState) -> list[Measured]:
        """What each configuration measured."""
        used = self._blocks.number * self._configurations
        params = np.moveaxis(np.asarray(states.params)[:used], 1, 2)
        alive = np.asarray(states.alive)[:used]
        valid = np.arange(self._blocks.size) < self._blocks.valid[:, None]
        per = (self._configurations, self._blocks.number)
        params, alive = params.reshape(*per, *params.shape[1:]), alive.reshape(*per, -1)
        out = []
        for c in range(self._configurations):
            kept = [x[c][self._snapshots[-1][1][c]] for x, _ in self._snapshots]
            snapshots = np.stack(kept) if kept else np.empty((0, 0, params.shape[-1]))
            out.append(Measured(self._halves[c], self._record[c], snapshots, params[c][valid], alive[c][valid]))
        return out
