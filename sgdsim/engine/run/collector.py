"""Move sums to the host after each segment and merge them in float64, in fixed order; join passes."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import PyTree

from sgdsim.engine.plan.blocks import Blocks
from sgdsim.engine.plan.hosts import fetch
from sgdsim.engine.plan.passes import Pass
from sgdsim.engine.plan.plan import Plan
from sgdsim.engine.plan.schedule import Segment
from sgdsim.engine.run.advance import BlockState
from sgdsim.engine.run.quantities import Numbers, empty_totals, quantities

_SNAPSHOT_CHAINS = 1024

T = TypeVar("T")
Totals = list[PyTree]  # of each statistic


class Measured(NamedTuple):
    """What one point of the grid measured."""

    halves: list[Totals | None]  # over the first and the second half
    record: list[Numbers]  # quantities at each recorded step
    snapshots: np.ndarray  # (times, some chains, D)
    final: np.ndarray  # (chains, D)
    alive: np.ndarray  # (chains,)


class Collected(NamedTuple):
    """What one pass has measured so far; replaced as a whole, so that an interruption finds it complete."""

    halves: tuple[Totals | None, Totals | None] = (None, None)
    # One pass: quantities of every point. Several: totals, for no pass sees all groups.
    record: tuple[list[Numbers] | Totals, ...] = ()
    snapshots: tuple[tuple[np.ndarray, np.ndarray], ...] = ()


class Collector:
    """Makes the totals of one pass: every leaf has the groups of all its units, in order, as first axis."""

    def __init__(self, plan: Plan, portion: Pass):
        self._statistics, self._dimension = plan.request.statistics, plan.request.dimension
        self._blocks, self._points, self._portion = plan.blocks, len(plan.points), portion
        self.whole = len(plan.passes) == 1

    def add(self, old: Collected, segment: Segment, states: BlockState, sums: PyTree,
            centre: jax.Array) -> Collected:
        """Take in one segment."""
        halves, record, snapshots = old
        if segment.measure:
            totals = self._collect(sums, centre)
            if segment.record:
                record = (*record, self._row(totals) if self.whole else totals)
            if segment.counts:
                first, second = halves
                halves = (first, self._merge(second, totals)) if segment.half else (self._merge(first, totals), second)
        if segment.snapshot:
            snapshots = (*snapshots, self._some_chains(states))
        return Collected(halves, record, snapshots)

    def join_halves(self, old: Collected) -> Collected:
        """What was measured so far is the first half of what comes."""
        return old._replace(halves=(self._merge(*old.halves), None))

    def of(self, point: int, totals: T) -> T:
        """The part of `totals` that belongs to one point."""
        number, groups = self._blocks.number, self._blocks.groups
        edges = np.array([point, point + 1]) * number - self._portion.first
        low, high = np.clip(edges, 0, self._portion.stop - self._portion.first) * groups
        return jax.tree.map(lambda leaf: leaf[low:high], totals)

    def nothing(self) -> Totals:
        """Totals of a pass that has measured nothing."""
        groups = (self._portion.stop - self._portion.first) * self._blocks.groups
        return empty_totals(self._statistics, self._dimension, groups)

    def restore(self, found: dict[str, np.ndarray]) -> Collected:
        """What `named_arrays` made arrays of."""
        nothing = self.nothing()
        structure = jax.tree.structure(nothing)
        many = len(jax.tree.leaves(nothing))

        def totals(leaves: list[np.ndarray]) -> Totals:
            return jax.tree.unflatten(structure, leaves)

        halves = [totals([found[f"half{h}.{i}"] for i in range(many)]) if f"half{h}.0" in found else None
                  for h in (0, 1)]
        names = [name.removeprefix("record.") for name in found if name.startswith("record.")]
        rows = range(len(found[f"record.{names[0]}"]) if names else 0)
        if self.whole:
            record: list[list[Numbers] | Totals] = [[{name: found[f"record.{name}"][row, c] for name in names}
                                  for c in range(self._points)] for row in rows]
        else:
            record = [totals([found[f"record.{i}"][row] for i in range(many)]) for row in rows]
        snapshots = zip(found.get("snapshot.params", ()), found.get("snapshot.alive", ()), strict=True)
        return Collected((halves[0], halves[1]), tuple(record), tuple(snapshots))

    def _collect(self, sums: PyTree, centre: jax.Array) -> Totals:
        used = self._portion.stop - self._portion.first

        def flat(leaf: jax.Array) -> np.ndarray:
            wide = np.asarray(fetch(leaf), dtype=np.float64)[:used]
            return wide.reshape(-1, *wide.shape[2:])

        centres = np.asarray(fetch(centre), dtype=np.float64)[:used].repeat(self._blocks.groups, axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            return [s.collect(x, centres) for s, x in zip(self._statistics, jax.tree.map(flat, sums), strict=True)]

    def _merge(self, a: Totals | None, b: Totals | None) -> Totals | None:
        if a is None or b is None:
            return a or b
        with np.errstate(over="ignore", invalid="ignore"):
            return [s.merge(x, y) for s, x, y in zip(self._statistics, a, b, strict=True)]

    def _row(self, totals: Totals) -> list[Numbers]:
        return [quantities(self._statistics, self.of(c, totals)) for c in range(self._points)]

    def _some_chains(self, states: BlockState) -> tuple[np.ndarray, np.ndarray]:
        """Parameters (units, chains, D) of the first chains of some blocks, and whether they live."""
        stride, each = _sampled(self._blocks)
        units = np.arange(self._portion.first, self._portion.stop)
        chosen = np.nonzero(units % self._blocks.number % stride == 0)[0]
        params = fetch(states.params, np.s_[:, :, :each])[chosen].astype(np.float64)
        return np.moveaxis(params, 1, 2), fetch(states.alive, np.s_[:, :each])[chosen]


def _sampled(blocks: Blocks) -> tuple[int, int]:
    """Every which block is looked at, and how many chains of it."""
    stride = max(1, blocks.number // _SNAPSHOT_CHAINS)
    return stride, min(int(blocks.valid.min()), max(1, _SNAPSHOT_CHAINS * stride // blocks.number))


def named_arrays(collected: Collected, whole: bool) -> dict[str, np.ndarray]:
    """Everything collected, as named arrays."""
    found: dict[str, np.ndarray] = {}
    for h, half in enumerate(collected.halves):
        if half is not None:
            found |= {f"half{h}.{i}": leaf for i, leaf in enumerate(jax.tree.leaves(half))}
    if collected.record and whole:
        found |= {f"record.{name}": np.array([[row[name] for row in rows] for rows in collected.record])
                  for name in collected.record[0][0]}
    elif collected.record:
        rows = [jax.tree.leaves(totals) for totals in collected.record]
        found |= {f"record.{i}": np.stack(leaves) for i, leaves in enumerate(zip(*rows, strict=True))}
    if collected.snapshots:
        params, alive = zip(*collected.snapshots, strict=True)
        found |= {"snapshot.params": np.stack(params), "snapshot.alive": np.stack(alive)}
    return found


class Finals:
    """Parameters of every chain after its last step; chains of passes that never began stand at their start."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self.params, self.alive = np.empty((0, 0, 0)), np.empty((0, 0), bool)

    def take(self, portion: Pass, states: BlockState) -> None:
        """Take over the chains of one pass."""
        params, alive = fetch(states.params), fetch(states.alive)
        request, blocks = self._plan.request, self._plan.blocks
        if portion.first == 0:  # not before the first pass has ended: its peak is behind us
            shape = (len(self._plan.points), request.chains, request.dimension)
            self.params, self.alive = np.empty(shape, params.dtype), np.ones(shape[:2], bool)
            self.params[:] = request.initial
        ends = np.cumsum(blocks.valid)
        for row, unit in enumerate(range(portion.first, portion.stop)):
            c, b = divmod(unit, blocks.number)
            many = blocks.valid[b]
            where = slice(ends[b] - many, ends[b])
            self.params[c, where] = params[row, :, :many].T
            self.alive[c, where] = alive[row, :many]


class Part(NamedTuple):
    """What one pass has measured."""

    portion: Pass
    collector: Collector
    collected: Collected


def join(plan: Plan, parts: list[Part], finals: Finals) -> list[Measured]:
    """Put passes together, in the order of blocks: the same totals as from one pass."""
    return [
        Measured(
            [_joined_half(c, h, parts) for h in (0, 1)],
            _joined_record(plan, c, parts),
            _joined_snapshots(plan, c, parts),
            finals.params[c],
            finals.alive[c],
        )
        for c in range(len(plan.points))
    ]


def _joined_half(c: int, h: int, parts: list[Part]) -> Totals | None:
    """Groups that have nothing in this half, in an interrupted pass, count for nothing."""
    found = [part.collected.halves[h] for part in parts]
    if all(half is None for half in found):
        return None
    return _concatenate([part.collector.of(c, part.collector.nothing() if half is None else half)
                         for part, half in zip(parts, found, strict=True)])


def _concatenate(parts: list[T]) -> T:
    if len(parts) == 1:
        return parts[0]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _joined_record(plan: Plan, c: int, parts: list[Part]) -> list[Numbers]:
    if parts[0].collector.whole:
        return [rows[c] for rows in parts[0].collected.record]
    longest = max(len(part.collected.record) for part in parts)
    rows = [_concatenate([part.collector.of(c, part.collected.record[i]) for part in parts
                          if len(part.collected.record) > i]) for i in range(longest)]
    return [quantities(plan.request.statistics, totals) for totals in rows]


def _joined_snapshots(plan: Plan, c: int, parts: list[Part]) -> np.ndarray:
    """Of the passes that have seen as many times as the first: an interrupted one would cut all others short."""
    blocks, dimension = plan.blocks, plan.request.dimension
    stride, _ = _sampled(blocks)
    times = len(parts[0].collected.snapshots)
    params, alive = [], []
    for portion, _, (_, _, snapshots) in parts:
        units = np.arange(portion.first, portion.stop)
        mine = units[units % blocks.number % stride == 0] // blocks.number == c
        if times and len(snapshots) == times and mine.any():
            params.append(np.stack([x[mine] for x, _ in snapshots]))
            alive.append(snapshots[-1][1][mine])
    if not params:
        return np.empty((0, 0, dimension))
    joined = np.concatenate(params, axis=1)
    return joined.reshape(times, -1, dimension)[:, np.concatenate(alive).ravel()]
