"""What a run will do, as one record: everything is decided, and nothing has been done."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax
from jax.sharding import Mesh

from sgdsim.engine.checkpoints.checkpoint import Checkpoint
from sgdsim.engine.plan.blocks import Blocks
from sgdsim.engine.plan.budget import Need
from sgdsim.engine.plan.passes import Pass, Point
from sgdsim.engine.plan.request import Request
from sgdsim.engine.plan.schedule import Segment
from sgdsim.engine.run.advance import Launch, Shared
from sgdsim.engine.run.run_state import StateLayout
from sgdsim.kernels import Kernel
from sgdsim.optimizers import SGD
from sgdsim.problems import Problem
from sgdsim.results import RunState


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A run, before it begins; what it returns carries its plan.

    Attributes:
        problem: what is learned, as it was handed in.
        request: what was asked for; with a control variate, of the problem and its companion.
        points: the grid; `simulate` has one point.
        axes: the values along each axis of the grid, where there is one.
        kernels: one for each batch size.
        shared: kernels, optimizers, problem and statistics in the dtype of the chains, not yet on any device.
        devices: where it runs.
        mesh: those devices, or None for the default one.
        blocks: how the chains of a point are laid out.
        passes: which units run together, one pass after the other.
        segments: the schedule of every pass.
        begun: when planning began, by `time.perf_counter`.
        progress: whether a bar is shown; None decides by itself.
        target: relative standard errors that end the run early.
        looks: steps at which they are looked at.
        launch: the program that takes many steps in one launch, where it applies.
        need: bytes that the run needs.
        checkpoint: where and how often states are saved.
        identity: what checkpoints of this run must say.
        layout: where chains are in what blocks carry, where the last state is kept or the first is given.
        keep_state: whether the last state is returned.
        state: what the run goes on from.
        companion: the optimizer of one chain, where a companion of known covariance runs beside each.
    """

    problem: Problem
    request: Request
    points: tuple[Point, ...]
    axes: Mapping[str, list[float]]
    kernels: tuple[Kernel, ...]
    shared: Shared
    devices: list[jax.Device]
    mesh: Mesh | None
    blocks: Blocks
    passes: list[Pass]
    segments: list[Segment]
    begun: float
    progress: bool | None
    target: Mapping[str, float] | None = None
    looks: Sequence[int] = ()
    launch: Launch | None = None
    need: Need | None = None
    checkpoint: Checkpoint | None = None
    identity: Mapping[str, str] = dataclasses.field(default_factory=dict)
    companion: SGD | None = None
    layout: StateLayout | None = None
    keep_state: bool = False
    state: RunState | None = None

    @property
    def padded(self) -> int:
        """Units of a pass once every device has equally many."""
        longest = self.passes[0]
        return -(-(longest.stop - longest.first) // len(self.devices)) * len(self.devices)
