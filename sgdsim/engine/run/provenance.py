"""Where numbers come from: what was asked for, how it was laid out, versions, timing; as plain JSON types."""

from __future__ import annotations

import datetime
import platform

import jax
import numpy as np
import optax

from sgdsim._version import __version__
from sgdsim.engine.plan.passes import Point
from sgdsim.engine.plan.plan import Plan
from sgdsim.engine.plan.settling import forgetting


def provenance(plan: Plan, point: Point, seconds: float) -> dict[str, object]:
    """What there is to say about one point of any run."""
    request, blocks = plan.request, plan.blocks
    return {
        "problem": repr(plan.problem),
        "optimizer": repr(point.asked) if request.transform is None else "optax transformation",
        "batch_size": point.batch_size,
        "sampling": point.sampling,
        "chains": request.chains,
        "steps": request.steps,
        "burn_in": request.burn_in,
        "thin": request.thin,
        "forgetting": _forgetting(plan, point),
        "seed": request.seed,
        "dtype": request.dtype.name,
        "kernel": type(plan.kernels[point.kernel]).__name__,
        "blocks": blocks.number,
        "block_size": blocks.size,
        "groups": blocks.number * blocks.groups,
        "hosts": len({device.process_index for device in plan.devices}),
        "devices": [str(device) for device in plan.devices],
        "platform": plan.devices[0].device_kind,
        "seconds": round(seconds, 3),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "sgdsim": __version__,
            "jax": jax.__version__,
            "optax": optax.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def _forgetting(plan: Plan, point: Point) -> float | None:
    """How fast second moments forget the start, in a step, where curvature and learning rate say so."""
    return forgetting(plan.problem, point.asked, point.batch_size) if isinstance(point.batch_size, int) else None
