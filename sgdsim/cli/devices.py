"""What a command computes on, and where it writes."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TypeVar

import jax

import sgdsim as ss
from sgdsim import _checks

Output = TypeVar("Output", Path, Path | None)


def compile_quickly() -> None:
    """Short runs spend most of their time in the compiler: leave its expensive passes out, unless XLA_FLAGS is set."""
    os.environ.setdefault("XLA_FLAGS", "--xla_llvm_disable_expensive_passes=true")


def use_devices(hosts: bool, output: Output) -> Output | Path:
    """Start on every core, with `hosts` of every process; where to write. Only the first process says anything."""
    if hosts:
        ss.use_all_hosts()
    ss.use_all_cores()
    if not hosts or jax.process_index() == 0:
        return output
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    discarded = tempfile.mkdtemp(prefix="sgdsim-")
    atexit.register(shutil.rmtree, discarded, ignore_errors=True)
    return Path(discarded)


def check_folder(output: Path) -> None:
    """Refuse to write a folder where there is a file.

    Raises:
        ValueError: there is one.
    """
    folder = _checks.path("--output", output)
    if folder.exists() and not folder.is_dir():
        raise _checks.error("--output", str(output), "a folder", "choose another name")
