"""Which devices a run uses, and how precisely they compute."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

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
    return len(local_devices())


def local_devices() -> list[jax.Device]:
    """The devices of this process.

    Raises:
        ValueError: JAX finds no device of the platforms that it was told to use.
    """
    try:
        return jax.local_devices()
    except (RuntimeError, AssertionError) as failed:  # JAX raises either, depending on its version
        asked = jax.config.values.get("jax_platforms")
        if not asked:
            raise
        raise _checks.error("JAX_PLATFORMS", asked, "platforms that JAX finds on this machine",
                            "unset it, or set it to cpu") from failed


def resolve_devices(devices: object) -> list[jax.Device]:
    """None means every device of every process; a number means the first so many of each; else a list of devices."""
    if devices is None or isinstance(devices, int):
        remedy = "call ss.use_all_cores() first for one device a core"
        high = len(local_devices())
        each = high if devices is None else _checks.integer("devices", devices, high=high, remedy=remedy)
        if jax.process_count() == 1:
            return jax.local_devices()[:each]
        return [device for host in range(jax.process_count()) for device in _of_host(host)[:each]]
    chosen = list(devices) if isinstance(devices, Iterable) else []
    if not chosen or not all(isinstance(device, jax.Device) for device in chosen):
        raise _checks.error("devices", devices, "None, a number or a list of JAX devices", "try jax.devices()")
    return chosen


def check_dtype(platform: str, dtype: np.dtype) -> None:
    """Refuse double precision where the compiler does.

    Raises:
        ValueError: `dtype` is float64, and the device is a TPU.
    """
    if platform == "tpu" and dtype == np.float64:
        raise _checks.error("dtype", "float64", "'float32' on a TPU",
                            "double precision needs a CPU or a GPU: devices=jax.devices('cpu')")


def _of_host(host: int) -> list[jax.Device]:
    return sorted((d for d in jax.devices() if d.process_index == host), key=lambda device: device.id)


@contextlib.contextmanager
def precision(dtype: np.dtype) -> Iterator[None]:
    """Double precision inside, where chains ask for it; whatever the user has set stays outside.

    Products of float32 are in full, in users' networks too: by default a GPU makes them of three digits (TF32), a TPU
    of two (bfloat16). A `jax_default_matmul_precision` that the user has set counts.
    """
    with contextlib.ExitStack() as inside:
        if dtype == np.float64:
            inside.enter_context(jax.enable_x64(True))
        if getattr(jax.config, "jax_default_matmul_precision", None) is None:
            inside.enter_context(jax.default_matmul_precision("highest"))
        yield


def make_mesh(devices: list[jax.Device]) -> Mesh | None:
    """A mesh over blocks, or None for the single default device."""
    if len(devices) == 1 and devices[0] == jax.local_devices()[0]:
        return None
    return Mesh(np.array(devices), ("blocks",))


def place(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Arrays whose first axis is units, each process putting its own units on its own devices."""
    if mesh is None:
        return tree
    return _put(tree, NamedSharding(mesh, PartitionSpec(mesh.axis_names[0])))


def replicate(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """The same arrays on every device, there before the first call: handed over as NumPy they go there at each."""
    if mesh is None:
        return jax.device_put(tree)
    return _put(tree, NamedSharding(mesh, PartitionSpec()))


def _put(tree: PyTree, where: NamedSharding) -> PyTree:
    return jax.tree.map(lambda x: jax.make_array_from_callback(np.shape(x), where, lambda i: np.asarray(x)[i]), tree)
