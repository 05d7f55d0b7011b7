"""How much memory a run needs, how much there is, and in how many passes it fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from sgdsim import _checks
from sgdsim.engine.advance import Shared, Unit, advance, begin
from sgdsim.engine.blocks import Blocks
from sgdsim.engine.checkpoint import Checkpoint
from sgdsim.engine.checkpoint_files import recorded_passes
from sgdsim.engine.configure import Run
from sgdsim.engine.devices import make_mesh
from sgdsim.engine.free_memory import available
from sgdsim.engine.hosts import everywhere
from sgdsim.engine.program_size import size, temporaries

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


def estimate(run: Run, shared: Shared, blocks: Blocks, configurations: int, devices: list[jax.Device],
             checkpoint: bool, fused: Any = None) -> Need:
    """What a run needs, from the shapes of its own program: nothing is allocated.

    A device holds the states before and after a segment, the sums, and what one block needs on the way. The host
    holds float64 totals and the last parameters of all chains; with checkpoints, two more states: the one
    being written, and the writer's copy.
    """
    mesh = make_mesh(devices)
    units = configurations * blocks.number
    # The shapes of the run itself where it is of a usual size: tracing is then no work done twice.
    padded = -(-units // len(devices)) * len(devices) if units <= 4096 * len(devices) else len(devices)
    params = jax.ShapeDtypeStruct((padded, run.initial.shape[-1], blocks.size), run.dtype)
    alive = jax.ShapeDtypeStruct((padded, blocks.size), np.bool_)
    number = jax.ShapeDtypeStruct((padded,), np.int32)
    unit = Unit(number, number, jax.ShapeDtypeStruct((padded,), jax.random.key(0).dtype))
    how = {"transform": run.transform, "mesh": mesh}
    states = begin.eval_shape(shared, unit, params, alive, **how)
    scalar = np.int32(0)
    traced = advance.trace(shared, unit, states, scalar, scalar, scalar, np.bool_(True), groups=blocks.groups,
                           fused=fused, **how)
    _, sums, centre = traced.out_info
    state, start, summed = (size(tree) / padded for tree in (states, (params, alive), (sums, centre)))
    wide = summed * 8 / run.dtype.itemsize
    final = (run.initial.shape[-1] * run.dtype.itemsize + 1) * blocks.size
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


def check_passes(asked: Any, units: int, target: Any) -> Any:
    """None, "auto", or a number of passes that blocks can be divided into."""
    if asked not in (None, "auto"):
        remedy = "a pass takes whole blocks of chains: passes='auto' finds the fewest"
        asked = _checks.integer("passes", asked, high=units, remedy=remedy)
    if target and asked not in (None, 1):
        raise _checks.error("target_stderr", target, "None where chains run in several passes",
                            "a pass must end before the next begins: use passes=1 and fewer chains")
    return asked


def choose_passes(asked: Any, need: Need, units: int, run: Run, checkpoint: Checkpoint | None,
                  mesh: Mesh | None) -> int:
    """Passes to take: as many as asked for, or the fewest that fit; every host decides the same.

    Raises:
        ValueError: the run does not fit, with what it needs and how many chains would fit.
    """
    there = available()
    passes = (recorded_passes(Path(checkpoint.path)) if checkpoint and asked == "auto" else None) or asked or 1
    if passes == "auto":
        passes = next((p for p in _candidates(units) if need.fits(-(-units // p), there)), 0)
    elif not need.fits(-(-units // passes), there):
        passes = 0
    said = everywhere(mesh, passes)
    if min(said) > 0:
        return max(said)
    one = -(-units // asked) if isinstance(asked, int) else 1 if asked == "auto" else units
    needed = need.of(one)
    tight = max(needed, key=lambda where: needed[where] / max(there[where], 1))
    fitting = max((u for u in _candidates(units)[::-1] if need._replace(
        host_fixed=_COMPILER + (need.host_fixed - _COMPILER) * u / units).fits(u, there)), default=0)
    fitting_chains = min(run.chains, fitting * run.chains // units)
    raise _checks.error(
        "chains", run.chains,
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
