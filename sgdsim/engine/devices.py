"""Which devices a run uses."""

from __future__ import annotations

import os
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

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
    """None means every device of every process; a number means the first so many of each; else a list of devices."""
    if devices is None or isinstance(devices, int):
        remedy = "call ss.use_all_cores() first for one device a core"
        high = jax.local_device_count()
        each = high if devices is None else _checks.integer("devices", devices, high=high, remedy=remedy)
        if jax.process_count() == 1:
            return jax.local_devices()[:each]
        return [device for host in range(jax.process_count()) for device in _of_host(host)[:each]]
    chosen = list(devices)
    if not chosen or not all(isinstance(device, jax.Device) for device in chosen):
        raise _checks.error("devices", devices, "None, a number or a list of JAX devices", "try jax.devices()")
    return chosen


def _of_host(host: int) -> list[jax.Device]:
    return sorted((d for d in jax.devices() if d.process_index == host), key=lambda device: device.id)


def make_mesh(devices: list[jax.Device]) -> Mesh | None:
    """A mesh over blocks, or None for the single default device."""
    if len(devices) == 1 and devices[0] == jax.local_devices()[0]:
        return None
    return Mesh(np.array(devices), ("blocks",))


def place(tree: Any, mesh: Mesh | None) -> Any:
    """Arrays whose first axis is units, each process putting its own units on its own devices."""
    if mesh is None:
        return tree
    return _put(tree, NamedSharding(mesh, PartitionSpec(mesh.axis_names[0])))


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """The same arrays on every device, there before the first call: handed over as NumPy they go there at each."""
    if mesh is None:
        return jax.device_put(tree)
    return _put(tree, NamedSharding(mesh, PartitionSpec()))


def _put(tree: Any, where: NamedSharding) -> Any:
    return jax.tree.map(lambda x: jax.make_array_from_callback(np.shape(x), where, lambda i: np.asarray(x)[i]), tree)
