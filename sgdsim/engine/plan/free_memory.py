"""How much memory is free: on the machine, under the limits of its control groups, on accelerators."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import jax


def available() -> dict[str, float]:
    """Free bytes of the host and of its fullest accelerator (infinite where that is the host)."""
    free = [_device_free(device) for device in jax.local_devices()]
    return {"host": host_free(), "device": min(free)}


def host_free(proc: str = "/proc", cgroups: str = "/sys/fs/cgroup") -> float:
    """Bytes that this process may still take: the machine's, or less where a container or scheduler limits it."""
    free = math.inf
    try:
        lines = Path(proc, "meminfo").read_text(encoding="ascii").splitlines()
        free = next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        free = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min([free, *_limits(proc, Path(cgroups))])


def _limits(proc: str, root: Path) -> Iterator[float]:
    """What is left under each memory limit of this process's control groups, version 1 or 2."""
    try:
        lines = Path(proc, "self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return
    names = {"": ("memory.max", "memory.current", "inactive_file"),
             "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in ("memory", "") if controllers == "" else set(controllers.split(",")) & {"memory"}:
            limit, usage, reclaimable = names[controller]
            top = root / controller
            for folder in (top / path.strip("/"), *(top / path.strip("/")).parents):
                if not folder.is_relative_to(top):
                    break
                try:
                    most, used = (float((folder / name).read_text(encoding="ascii")) for name in (limit, usage))
                    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                except (OSError, ValueError):  # no such group here, or "max": no limit
                    continue
                yield most - used + float(stat.get(reclaimable, 0))


def _device_free(device: jax.Device) -> float:
    stats = device.memory_stats() or {}
    return stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else math.inf
