"""Move sums to the host after each segment and merge them in float64, in fixed order; join passes."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from sgdsim.engine.advance import BlockState
from sgdsim.engine.blocks import Blocks
from sgdsim.engine.configure import Run
from sgdsim.engine.hosts import fetch
from sgdsim.engine.passes import Portion
from sgdsim.engine.quantities import empty_totals, quantities
from sgdsim.engine.schedule import Segment

_SNAPSHOT_CHAINS = 1024


class Measured(NamedTuple):
    """What one configuration measured."""

    halves: list[Any]  # totals of each statistic over the first and the second half
    record: list[dict[str, Any]]  # quantities at each recorded step
    snapshots: np.ndarray  # (times, some chains, D)
    final: np.ndarray  # (chains, D)
    alive: np.ndarray  # (chains,)


class Collected(NamedTuple):
    """What one pass has measured so far; replaced as a whole, so that an interruption finds it complete."""

    halves: tuple[list[Any] | None, list[Any] | None] = (None, None)
    # One pass: quantities of every configuration. Several: totals, for no pass sees all groups.
    record: tuple[Any, ...] = ()
    snapshots: tuple[tuple[np.ndarray, np.ndarray], ...] = ()


class Collector:
    """Makes the totals of one pass: every leaf has the groups of all its units, in order, as first axis."""

    def __init__(self, run: Run, blocks: Blocks, configurations: int, portion: Portion):
        self._run, self._blocks, self._configurations, self._portion = run, blocks, configurations, portion
        self.whole = portion.stop - portion.first == blocks.number * configurations

    def add(self, old: Collected, segment: Segment, states: BlockState, sums: Any, centre: Any) -> Collected:
        """Take in one segment."""
        halves, record, snapshots = old
        if segment.measure:
            totals = self._collect(sums, centre)
            if segment.record:
                record = (*record, self._row(totals) if self.whole else totals)
            elif segment.half:
                halves = (halves[0], self._merge(halves[1], totals))
            else:
                halves = (self._merge(halves[0], totals), halves[1])
        if segment.snapshot:
            snapshots = (*snapshots, self._some_chains(states))
        return Collected(halves, record, snapshots)

    def join_halves(self, old: Collected) -> Collected:
        """What was measured so far is the first half of what comes."""
        return old._replace(halves=(self._merge(*old.halves), None))

    def of(self, configuration: int, totals: Any) -> Any:
        """The part of `totals` that belongs to one configuration."""
        number, groups = self._blocks.number, self._blocks.groups
        edges = np.array([configuration, configuration + 1]) * number - self._portion.first
        low, high = np.clip(edges, 0, self._portion.stop - self._portion.first) * groups
        return jax.tree.map(lambda leaf: leaf[low:high], totals)

    def nothing(self) -> list[Any]:
        """Totals of a pass that has measured nothing."""
        groups = (self._portion.stop - self._portion.first) * self._blocks.groups
        return empty_totals(self._run.statistics, self._run.initial.shape[-1], groups)

    def restore(self, found: dict[str, np.ndarray]) -> Collected:
        """What `named_arrays` made arrays of."""
        nothing = self.nothing()
        structure: Any = jax.tree.structure(nothing)
        many = len(jax.tree.leaves(nothing))

        def totals(leaves: list[np.ndarray]) -> Any:
            return jax.tree.unflatten(structure, leaves)

        halves = [totals([found[f"half{h}.{i}"] for i in range(many)]) if f"half{h}.0" in found else None
                  for h in (0, 1)]
        names = [name.removeprefix("record.") for name in found if name.startswith("record.")]
        rows = range(len(found[f"record.{names[0]}"]) if names else 0)
        if self.whole:
            record: list[Any] = [[{name: found[f"record.{name}"][row, c] for name in names}
                                  for c in range(self._configurations)] for row in rows]
        else:
            record = [totals([found[f"record.{i}"][row] for i in range(many)]) for row in rows]
        snapshots = zip(found.get("snapshot.params", ()), found.get("snapshot.alive", ()), strict=True)
        return Collected((halves[0], halves[1]), tuple(record), tuple(snapshots))

    def _collect(self, sums: Any, centre: Any) -> list[Any]:
        used = self._portion.stop - self._portion.first

        def flat(leaf: Any) -> np.ndarray:
            wide = np.asarray(fetch(leaf), dtype=np.float64)[:used]
            return wide.reshape(-1, *wide.shape[2:])

        centres = np.asarray(fetch(centre), dtype=np.float64)[:used].repeat(self._blocks.groups, axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            return [s.collect(x, centres)
                    for s, x in zip(self._run.statistics, jax.tree.map(flat, sums), strict=True)]

    def _merge(self, a: list[Any] | None, b: list[Any] | None) -> list[Any] | None:
        if a is None or b is None:
            return a or b
        with np.errstate(over="ignore", invalid="ignore"):
            return [s.merge(x, y) for s, x, y in zip(self._run.statistics, a, b, strict=True)]

    def _row(self, totals: list[Any]) -> list[dict[str, Any]]:
        return [quantities(self._run.statistics, self.of(c, totals)) for c in range(self._configurations)]

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

    def __init__(self, run: Run, blocks: Blocks, configurations: int):
        self._run, self._blocks, self._configurations = run, blocks, configurations
        self.params: Any = None
        self.alive: Any = None

    def take(self, portion: Portion, states: Any) -> None:
        """Take over the chains of one pass."""
        params, alive = fetch(states.params), fetch(states.alive)
        if self.params is None:  # not before the first pass has ended: its peak is behind us
            shape = (self._configurations, self._run.chains, params.shape[1])
            self.params, self.alive = np.empty(shape, params.dtype), np.ones(shape[:2], bool)
            self.params[:] = self._run.initial
        ends = np.cumsum(self._blocks.valid)
        for row, unit in enumerate(range(portion.first, portion.stop)):
            c, b = divmod(unit, self._blocks.number)
            many = self._blocks.valid[b]
            where = slice(ends[b] - many, ends[b])
            self.params[c, where] = params[row, :, :many].T
            self.alive[c, where] = alive[row, :many]


class Part(NamedTuple):
    """What one pass has measured."""

    portion: Portion
    collector: Collector
    collected: Collected


def join(run: Run, blocks: Blocks, parts: list[Part], finals: Finals) -> list[Measured]:
    """Put passes together, in the order of blocks: the same totals as from one pass."""
    return [
        Measured(
            [_joined_half(c, h, parts) for h in (0, 1)],
            _joined_record(run, c, parts),
            _joined_snapshots(blocks, c, parts, run.initial.shape[-1]),
            finals.params[c],
            finals.alive[c],
        )
        for c in range(len(finals.params))
    ]


def _joined_half(c: int, h: int, parts: list[Part]) -> Any:
    """Groups that have nothing in this half, in an interrupted pass, count for nothing."""
    found = [part.collected.halves[h] for part in parts]
    if all(half is None for half in found):
        return None
    return _concatenate([part.collector.of(c, part.collector.nothing() if half is None else half)
                         for part, half in zip(parts, found, strict=True)])


def _concatenate(parts: list[Any]) -> Any:
    if len(parts) < 2:
        return parts[0] if parts else None
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _joined_record(run: Run, c: int, parts: list[Part]) -> list[dict[str, Any]]:
    if parts[0].collector.whole:
        return [rows[c] for rows in parts[0].collected.record]
    longest = max(len(part.collected.record) for part in parts)
    rows = [_concatenate([part.collector.of(c, part.collected.record[i]) for part in parts
                          if len(part.collected.record) > i]) for i in range(longest)]
    return [quantities(run.statistics, totals) for totals in rows]


def _joined_snapshots(blocks: Blocks, c: int, parts: list[Part], dimension: int) -> Any:
    """Of the passes that have seen as many times as the first: an interrupted one would cut all others short."""
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
