"""How much memory a run needs, how much there is, and in how many passes it fits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from sgdsim import _checks
from sgdsim.engine.checkpoints.checkpoint import Checkpoint
from sgdsim.engine.checkpoints.files import recorded_passes
from sgdsim.engine.plan.blocks import Blocks
from sgdsim.engine.plan.devices import make_mesh
from sgdsim.engine.plan.free_memory import available
from sgdsim.engine.plan.hosts import everywhere
from sgdsim.engine.plan.program_size import size, temporaries
from sgdsim.engine.plan.request import Request
from sgdsim.engine.run.advance import Launch, Shared, Unit, advance, begin

# The rest is for what else runs on the machine.
_SHARE = 0.9
_GIB = 2**30
_COMPILER = 2**26
# Random bits and copies of what loops carry are in no jaxpr: XLA took 0.4 to 1.5 times the model without this factor.
_COPIES = 2


class Need(NamedTuple):
    """Bytes at the peak of a run, as a function of the units of a pass."""

    device_unit: float  # on the device, for each unit that it holds
    device_fixed: float  # on each device, whatever it holds
    host_unit: float  # on each host, for each unit of a pass
    host_fixed: float  # on each host, for all units of all passes
    devices: int
    local_devices: int
    chains: int  # of a unit
    on_host: bool  # whether the devices' memory is the host's

    def of(self, units: int) -> dict[str, int]:
        """Bytes on a device and on a host; where they are the same memory, all under `host`."""
        device = self.device_fixed + self.device_unit * -(-units // self.devices)
        host = self.host_fixed + self.host_unit * units
        if self.on_host:
            return {"device": 0, "host": int(host + self.local_devices * device)}
        return {"device": int(device), "host": int(host)}

    def fits(self, units: int, available: dict[str, float]) -> bool:
        """Whether a pass of so many units fits."""
        return all(bytes_ <= _SHARE * available[where] for where, bytes_ in self.of(units).items())


def estimate(request: Request, shared: Shared, blocks: Blocks, points: int, devices: list[jax.Device],
             checkpoint: bool, launch: Launch | None = None) -> Need:
    """What a run needs, from the shapes of its own program: nothing is allocated.

    A device holds the states before and after a segment, the sums, and what one block needs on the way. The host
    holds float64 totals and the last parameters of all chains; with checkpoints, two more states: the one
    being written, and the writer's copy.
    """
    mesh = make_mesh(devices)
    units = points * blocks.number
    # The shapes of the run itself where it is of a usual size: tracing is then no work done twice.
    padded = -(-units // len(devices)) * len(devices) if units <= 4096 * len(devices) else len(devices)
    params = jax.ShapeDtypeStruct((padded, request.dimension, blocks.size), request.dtype)
    alive = jax.ShapeDtypeStruct((padded, blocks.size), np.bool_)
    number: PyTree = jax.ShapeDtypeStruct((padded,), np.int32)
    key: PyTree = jax.ShapeDtypeStruct((padded,), jax.random.key(0).dtype)
    unit = Unit(number, number, key)
    how = {"transform": request.transform, "mesh": mesh}
    states = begin.eval_shape(shared, unit, params, alive, **how)
    scalar = np.int32(0)
    traced = advance.trace(shared, unit, states, scalar, scalar, scalar, np.bool_(True), groups=blocks.groups,
                           launch=launch, **how)
    _, sums, centre = traced.out_info
    state, start, summed = (size(tree) / padded for tree in (states, (params, alive), (sums, centre)))
    wide = summed * 8 / request.dtype.itemsize
    final = (request.dimension * request.dtype.itemsize + 1) * blocks.size
    return Need(
        device_unit=max(2 * state + summed, state + start),
        device_fixed=_COPIES * temporaries(traced.jaxpr.jaxpr) + size(shared),
        host_unit=6 * wide + start + (2 * state if checkpoint else 0),
        host_fixed=final * units + _COMPILER,
        devices=len(devices),
        local_devices=sum(device.process_index == jax.process_index() for device in devices),
        chains=blocks.size,
        on_host=devices[0].platform == "cpu",
    )


def check_passes(asked: object, units: int, target: Mapping[str, float] | None) -> int | str | None:
    """None, "auto", or a number of passes that blocks can be divided into."""
    if asked not in (None, "auto"):
        remedy = "a pass takes whole blocks of chains: passes='auto' finds the fewest"
        asked = _checks.integer("passes", asked, high=units, remedy=remedy)
    if target and asked not in (None, 1):
        raise _checks.error("target_stderr", target, "None where chains run in several passes",
                            "a pass must end before the next begins: use passes=1 and fewer chains")
    return asked


def choose_passes(asked: int | str | None, need: Need, units: int, request: Request, checkpoint: Checkpoint | None,
                  mesh: Mesh | None) -> int:
    """Passes to take: as many as asked for, or the fewest that fit; every host decides the same.

    Raises:
        ValueError: the run does not fit, with what it needs and how many chains would fit.
    """
    there = available()
    begun_in = recorded_passes(Path(checkpoint.path)) if checkpoint and asked == "auto" else None
    tried = [begun_in] if begun_in else [asked] if isinstance(asked, int) else _candidates(units) if asked else [1]
    said = everywhere(mesh, next((p for p in tried if need.fits(-(-units // p), there)), 0))
    if min(said) > 0:
        return max(said)
    one = -(-units // asked) if isinstance(asked, int) else 1 if asked == "auto" else units
    needed = need.of(one)
    tight = max(needed, key=lambda where: needed[where] / max(there[where], 1))
    fitting = max((u for u in _candidates(units)[::-1] if need._replace(
        host_fixed=_COMPILER + (need.host_fixed - _COMPILER) * u / units).fits(u, there)), default=0)
    fitting_chains = min(request.chains, fitting * request.chains // units)
    raise _checks.error(
        "chains", request.chains,
        f"such that the run fits into memory: it needs {needed[tight] / _GIB:.3g} GiB of {tight} memory"
        f"{f' in {asked} passes' if asked else ''}, and there are {_SHARE * there[tight] / _GIB:.3g} GiB",
        f"about {fitting_chains} chains fit" + (" at once; try passes='auto'" if asked != "auto" else ""),
    )


def _candidates(units: int) -> list[int]:
    """1, 2, 3, ... in steps of at most a tenth: an ensemble may have millions of blocks."""
    numbers = {1, units}
    p = 1
    while p < units:
        numbers.add(p)
        p = max(p + 1, p * 11 // 10)
    return sorted(numbers)
