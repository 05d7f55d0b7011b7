"""Several processes, one ensemble: how they find each other, what each holds, what they agree on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim.engine.plan.devices import use_all_cores


def use_all_hosts() -> int:
    """Join the processes of a cluster into one; call it before anything else that uses JAX.

    SLURM, Open MPI up to 4, Cloud TPU and Kubernetes are recognised by `jax.distributed.initialize`. Elsewhere set
    JAX_COORDINATOR_ADDRESS (host:port of the first process), JAX_NUM_PROCESSES and JAX_PROCESS_ID. Every process runs
    the same script; afterwards the chains of `simulate` are spread over the devices of all of them (on CPUs one for
    each core, unless XLA_FLAGS sets the number), every process returns the same result, and only the first one writes
    files.

    Returns:
        The number of processes.

    Raises:
        ValueError: no launcher is recognised and the variables are not set.
        RuntimeError: JAX has already started its backend.

    Examples:
        >>> import sgdsim as ss
        >>> ss.use_all_hosts()  # doctest: +SKIP
        16
    """
    if not jax.distributed.is_initialized():
        said = {name: os.environ.get(variable) for name, variable in
                (("num_processes", "JAX_NUM_PROCESSES"), ("process_id", "JAX_PROCESS_ID"))}
        try:
            given = {name: int(value) for name, value in said.items() if value is not None}
        except ValueError:
            raise _checks.error("JAX_NUM_PROCESSES, JAX_PROCESS_ID", said, "whole numbers",
                                "see docs/clusters.md") from None
        try:
            jax.distributed.initialize(**given)  # type: ignore[arg-type]
        except ValueError as unknown:
            raise _checks.error("launcher", None, f"one that JAX recognises ({unknown})",
                                "set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID") from None
    use_all_cores()  # counting the processes starts the backend, and then the number of its devices is fixed
    return jax.process_count()


def is_writer() -> bool:
    """Whether this process writes files: the first does."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def spans_hosts(mesh: Mesh | None) -> bool:
    """Whether a mesh has devices of other processes."""
    return mesh is not None and any(d.process_index != jax.process_index() for d in mesh.devices.flat)


def fetch(array: ArrayLike, cut: slice | tuple[slice, ...] = slice(None)) -> np.ndarray:
    """All units of a sharded array on the host, each cut by `cut`; every process gets the same.

    Sliced on the host: a slice of a sharded array is a program of its own.
    """
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return np.asarray(array)[cut]
    mine = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    rows = np.concatenate([np.asarray(shard.data) for shard in mine])
    return np.asarray(multihost_utils.process_allgather(rows[cut], tiled=True))


def agree(mesh: Mesh | None, stop: bool, save: bool) -> tuple[bool, bool]:
    """Stop if any process wants to, save if the first does: clocks and signals differ between processes."""
    if not spans_hosts(mesh):
        return stop, save
    said = np.asarray(multihost_utils.process_allgather(np.array([stop, save], np.int32)))
    return bool(said[:, 0].any()), bool(said[0, 1])


def everywhere(mesh: Mesh | None, number: int) -> list[int]:
    """The number that each process of the mesh has."""
    if not spans_hosts(mesh):
        return [number]
    return np.asarray(multihost_utils.process_allgather(np.array([number], np.int32))).ravel().tolist()


@contextlib.contextmanager
def interrupts(mesh: Mesh | None) -> Iterator[Callable[[], bool]]:
    """Says whether Ctrl-C was pressed. On one host it raises KeyboardInterrupt at once, as everywhere.

    Where processes wait for each other, one that stops at its own moment would leave the others waiting for ever.
    """
    pressed = threading.Event()
    if not spans_hosts(mesh) or threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    before = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
