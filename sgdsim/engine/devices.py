"""Which devices a run uses."""

from __future__ import annotations

import os
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from sgdsim import _checks


def use_all_cores() -> int:
    """Give JAX one CPU device for each core; call it first in a script or notebook.

    Does nothing if XLA_FLAGS already sets the number of devices.

    Returns:
        The number of local devices.

    Raises:
        RuntimeError: JAX has already started its backend.

    Examples:
        >>> import sgdsim as ss
        >>> ss.use_all_cores() >= 1
        True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    flagged = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not flagged and jax.config.values.get("jax_num_cpu_devices") != cores:
        try:
            jax.config.update("jax_num_cpu_devices", cores)
        except RuntimeError as late:
            raise RuntimeError(
                "use_all_cores() must come before anything that starts JAX; put it right after the imports"
            ) from late
    return jax.local_device_count()


def resolve_devices(devices: Any) -> list[jax.Device]:
    """None means every local device; a number means the first so many; else a list of devices."""
    available = jax.local_devices()
    if devices is None:
        return available
    if isinstance(devices, int):
        remedy = "call ss.use_all_cores() first for one device a core"
        return available[: _checks.integer("devices", devices, high=len(available), remedy=remedy)]
    chosen = list(devices)
    if not chosen or not all(isinstance(device, jax.Device) for device in chosen):
        raise _checks.error("devices", devices, "None, a number or a list of JAX devices", "try jax.devices()")
    return chosen


def make_mesh(devices: list[jax.Device]) -> Mesh | None:
    """A mesh over blocks, or None for the single default device."""
    if len(devices) == 1 and devices[0] == jax.local_devices()[0]:
        return None
    return Mesh(np.array(devices), ("blocks",))
