"""Checkpoint folders: written complete or not at all, checked before they are believed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from sgdsim import _checks

FORMAT = 1


class Found(NamedTuple):
    """A checkpoint that can be continued."""

    step: int
    arrays: dict[str, np.ndarray]


def newest(folder: Path, identity: dict[str, str]) -> Found | None:
    """The newest checkpoint whose checksums are right.

    Raises:
        ValueError: it is of another run (what differs is named), or every one is damaged.
    """
    damaged: list[str] = []
    for manifest in sorted(folder.glob("step_*.json"), reverse=True):
        try:
            content = _verified(manifest)
            _compare(content, identity, folder)
            arrays = _read(manifest.with_suffix(""), content)
        except _Damaged as wrong:
            damaged.append(str(wrong))
            continue
        if damaged:
            warnings.warn(f"damaged checkpoint: {'; '.join(damaged)}; going on from step {content['step']}",
                          RuntimeWarning, stacklevel=2)
        return Found(content["step"], arrays)
    if damaged:
        raise _checks.error("checkpoint", str(folder), f"undamaged ({'; '.join(damaged)})",
                            "remove the folder to start anew")
    return None


def refuse_other(folder: Path, identity: dict[str, str]) -> None:
    """Raise ValueError if another run left checkpoints here; before anything is traced or compiled."""
    for manifest in sorted(folder.glob("pass_*/step_*.json"), reverse=True):
        try:
            content = _read_manifest(manifest)
        except _Damaged:
            continue
        passes = {"passes": content["identity"].get("passes", "nothing")}
        return _compare(content, identity | passes, folder)


def recorded_passes(folder: Path) -> int | None:
    """In how many passes the run was cut that left checkpoints here."""
    for manifest in sorted(folder.glob("pass_0000/step_*.json"), reverse=True):
        with contextlib.suppress(_Damaged):
            return int(_read_manifest(manifest)["identity"]["passes"])
    return None


class _Damaged(Exception):
    """A checkpoint that must not be used."""


def _compare(content: dict[str, Any], identity: dict[str, str], folder: Path) -> None:
    there = content["identity"]
    differs = [f"{name} ({there.get(name, 'nothing')} there, {identity.get(name, 'nothing')} here)"
               for name in sorted(there.keys() | identity.keys()) if there.get(name) != identity.get(name)]
    if content["format"] != FORMAT:
        differs = [f"format ({content['format']} there, {FORMAT} here)"]
    if differs:
        raise _checks.error("checkpoint", str(folder), f"of this run; it differs in {', '.join(differs)}",
                            "choose another folder, or remove this one to start anew")


def _checkpointer() -> Any:
    ocp = _checks.need("orbax.checkpoint", "checkpoint")
    # Each process on its own: orbax's barriers would wait for processes that do not write.
    alone = ocp.options.MultiprocessingOptions(primary_host=jax.process_index(), active_processes={jax.process_index()},
                                               barrier_sync_key_prefix=f"sgdsim{jax.process_index()}")
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def write(folder: Path, step: int, arrays: dict[str, np.ndarray], identity: dict[str, str], keep: int) -> float:
    """Write one checkpoint, then its manifest, then forget old ones; seconds it took."""
    begun = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    target = folder / f"step_{step:012d}"
    manifest = target.with_name(f"{target.name}.json")
    manifest.unlink(missing_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    full = {name: array for name, array in arrays.items() if array.size}
    try:
        with contextlib.closing(_checkpointer()) as checkpointer:
            checkpointer.save(target.absolute(), full)
        content = {"format": FORMAT, "step": step, "identity": identity, "files": _checksums(target),
                   "arrays": {name: [list(array.shape), str(array.dtype)] for name, array in arrays.items()}}
        text = json.dumps({"content": content, "sha256": _checksum_of(content)}, indent=1)
        partial = manifest.with_suffix(".partial")
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, manifest)
    except BaseException:
        _sweep(folder)
        raise
    for old in sorted(folder.glob("step_*.json"))[:-keep]:
        old.unlink()
    _sweep(folder)
    return time.monotonic() - begun


def _sweep(folder: Path) -> None:
    """Remove what has no manifest: remains of a run that was killed, and checkpoints no longer kept."""
    for path in folder.glob("step_*"):
        name = path.name.split(".")[0]
        if not (folder / f"{name}.json").exists():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _checksums(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with open(path, "rb") as file:
                found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _checksum_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_manifest(manifest: Path) -> dict[str, Any]:
    try:
        said = json.loads(manifest.read_text(encoding="utf-8"))
        content = said["content"]
        if said["sha256"] != _checksum_of(content):
            raise _Damaged(f"the checksum of {manifest.name} is wrong")
    except (OSError, ValueError, KeyError, TypeError) as broken:
        raise _Damaged(f"{manifest.name} cannot be read ({reason(broken)})") from None
    return content


def _verified(manifest: Path) -> dict[str, Any]:
    content = _read_manifest(manifest)
    folder = manifest.with_suffix("")
    present = _checksums(folder)
    for name, checksum in content["files"].items():
        if present.get(name) != checksum:
            raise _Damaged(f"{folder.name}/{name} is {'damaged' if name in present else 'missing'}")
    return content


def _read(folder: Path, content: dict[str, Any]) -> dict[str, np.ndarray]:
    try:
        with contextlib.closing(_checkpointer()) as checkpointer:
            found = checkpointer.restore(folder.absolute())
    except (OSError, ValueError, KeyError) as broken:
        raise _Damaged(f"{folder.name} cannot be read ({reason(broken)})") from None
    arrays = {}
    for name, (shape, dtype) in content["arrays"].items():
        arrays[name] = np.asarray(found[name], dtype).reshape(shape) if name in found else np.zeros(shape, dtype)
    return arrays


def reason(failed: BaseException) -> str:
    """What went wrong, in a few words."""
    code = getattr(failed, "errno", None)
    text = os.strerror(code) if isinstance(code, int) and code in errno.errorcode else str(failed)
    return " ".join(text.split())[:200] or type(failed).__name__
