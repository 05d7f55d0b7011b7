"""Checkpoints on disk: arrays as NumPy stores them, believed once a manifest says that they are complete."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import time
import warnings
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np

from sgdsim import _checks

FORMAT = 2


class Manifest(TypedDict):
    """What stands beside the arrays of a checkpoint."""

    format: int
    step: int
    identity: dict[str, str]
    checksum: str  # of the file of arrays


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
            content = _read_manifest(manifest)
            _compare(content, identity, folder)
            arrays = _read(_arrays_of(manifest), content["checksum"])
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


def _compare(content: Manifest, identity: dict[str, str], folder: Path) -> None:
    there = content["identity"]
    differs = [f"{name} ({there.get(name, 'nothing')} there, {identity.get(name, 'nothing')} here)"
               for name in sorted(there.keys() | identity.keys()) if there.get(name) != identity.get(name)]
    if content["format"] != FORMAT:
        differs = [f"format ({content['format']} there, {FORMAT} here)"]
    if differs:
        raise _checks.error("checkpoint", str(folder), f"of this run; it differs in {', '.join(differs)}",
                            "choose another folder, or remove this one to start anew ('program' is what losses, "
                            "activations, schedules and transformations are compiled to)")


def write(folder: Path, step: int, arrays: dict[str, np.ndarray], identity: dict[str, str], keep: int) -> float:
    """Write one checkpoint, then its manifest, then forget old ones; seconds it took."""
    begun = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    manifest = folder / f"step_{step:012d}.json"
    manifest.unlink(missing_ok=True)
    try:
        with open(_arrays_of(manifest), "w+b") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        content = Manifest(format=FORMAT, step=step, identity=identity, checksum=checksum)
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
        if not path.with_suffix(".json").exists():
            path.unlink(missing_ok=True)


def _arrays_of(manifest: Path) -> Path:
    return manifest.with_suffix(".npz")


def _checksum_of(content: Manifest) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_manifest(manifest: Path) -> Manifest:
    try:
        said = json.loads(manifest.read_text(encoding="utf-8"))
        content = said["content"]
        if said["sha256"] != _checksum_of(content):
            raise _Damaged(f"the checksum of {manifest.name} is wrong")
    except (OSError, ValueError, KeyError, TypeError) as broken:
        raise _Damaged(f"{manifest.name} cannot be read ({reason(broken)})") from None
    return content


def _read(path: Path, checksum: str) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != checksum:
                raise _Damaged(f"{path.name} is damaged")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
    except FileNotFoundError:
        raise _Damaged(f"{path.name} is missing") from None
    except OSError as broken:
        raise _Damaged(f"{path.name} cannot be read ({reason(broken)})") from None


def reason(failed: BaseException) -> str:
    """What went wrong, in a few words."""
    code = getattr(failed, "errno", None)
    text = os.strerror(code) if isinstance(code, int) and code in errno.errorcode else str(failed)
    return " ".join(text.split())[:200] or type(failed).__name__
