"""NetCDF files: written as a whole or not at all, each group with a digest of its content that reading checks."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

from sgdsim import _checks
from sgdsim._version import __version__

if TYPE_CHECKING:
    from xarray import Dataset

# 1 had no digest, no kind, and of a sweep the format in its first group; 2 listed further quantities in `extra`.
FORMAT = 3


def write(path: str | Path, root: Dataset, groups: Mapping[str, Dataset] | None = None) -> Path:
    """Write NetCDF atomically: the file is complete or not there, and what was there before stays until then.

    Args:
        path: of the file.
        root: the dataset in the file's root.
        groups: further datasets by the names of their groups.

    Returns:
        The path.

    Raises:
        ImportError: h5netcdf is not installed.
        ValueError: the folder does not exist, or the path is a folder.
    """
    path = _checks.path("path", path)
    if not path.parent.is_dir():
        raise _checks.error("path", _shown(path), "inside an existing folder", f"create {path.parent} first")
    if path.is_dir():
        raise _checks.error("path", _shown(path), "a file", f"it is a folder: try {path / 'result.nc'}")
    _checks.need("h5netcdf", "results")
    if jax.distributed.is_initialized() and jax.process_index() > 0:
        return path  # every host of a cluster has the same result: the first one writes it
    root = root.assign_attrs(format=FORMAT, written_by=f"sgdsim {__version__}")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        _with_digest(root).to_netcdf(partial, mode="w", engine="h5netcdf")
        for name, dataset in (groups or {}).items():
            _with_digest(dataset).to_netcdf(partial, mode="a", engine="h5netcdf", group=name)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def read(path: str | Path) -> tuple[Dataset, dict[str, Dataset]]:
    """Read what `write` wrote; nothing in a file is executed.

    Returns:
        The root, and the groups by their names.

    Raises:
        ValueError: there is no such file, it is damaged or no file of sgdsim, or a newer sgdsim wrote it.
        ImportError: xarray or h5netcdf is not installed.
    """
    xr = _checks.need("xarray", "results")
    _checks.need("h5netcdf", "results")
    path = _checks.path("path", path)
    if not path.is_file():
        raise _checks.error("path", _shown(path), "an existing file", "check the path")
    try:
        # Asked first: h5netcdf leaves half-open files behind where there is nothing to open.
        with _checks.need("h5py", "results").File(path):
            pass
    except OSError as broken:
        raise _checks.error("path", _shown(path), f"a NetCDF file ({_reason(broken)})", "it may be truncated") from None
    groups: dict[str, Dataset] = {}
    try:
        for name, group in xr.open_groups(path, engine="h5netcdf").items():
            with group:
                groups[name.removeprefix("/")] = group.load()
    except Exception as broken:  # the readers below raise almost anything on damaged metadata
        raise damaged(path, broken) from broken
    root = groups.pop("")
    if "format" not in root.attrs:
        root = groups.get("point_0", root)
    _check_format(path, root)
    if any(_digest(group) != group.attrs["digest"] for group in (root, *groups.values()) if "digest" in group.attrs):
        raise damaged(path, ValueError("its digest differs from its content"))
    return root, groups


def damaged(path: str | Path, broken: Exception) -> ValueError:
    """The complaint about a file that cannot be made sense of."""
    return _checks.error("path", _shown(Path(path)), f"an undamaged result ({_reason(broken)})",
                         "take it from a backup, or run again")


def _check_format(path: Path, root: Dataset) -> None:
    version = root.attrs.get("format")
    if not isinstance(version, int | np.integer):
        raise _checks.error("path", _shown(path), "a file that sgdsim wrote", "write one with result.save(path)")
    if version > FORMAT:
        writer = root.attrs.get("written_by", "a newer sgdsim")
        here = f"which is what sgdsim {__version__} reads"
        reads = f"of format {FORMAT} or older, {here} (it is of format {version}, by {writer})"
        raise _checks.error("path", _shown(path), reads, "upgrade sgdsim")


def _reason(broken: Exception) -> str:
    """What went wrong, on one line of bounded length."""
    return " ".join(f"{type(broken).__name__}: {broken}".split())[:160]


def _shown(path: Path) -> str:
    """The path as a complaint shows it: of a long one the end, where the name is."""
    text = str(path)
    return text if len(text) <= 55 else "..." + text[-52:]


def _with_digest(dataset: Dataset) -> Dataset:
    return dataset.assign_attrs(digest=_digest(dataset))


def _digest(dataset: Dataset) -> str:
    """SHA-256 of the names, types, shapes and bytes of every variable, and of the attributes."""
    sha = hashlib.sha256()
    for name in sorted(map(str, dataset.variables)):
        values = np.ascontiguousarray(dataset.variables[name].to_numpy())
        if values.dtype.kind in "OUST":
            values = values.astype(str)
        sha.update(f"{name} {values.dtype.str} {values.shape}".encode())
        sha.update(values.tobytes())
    for name in sorted(set(dataset.attrs) - {"digest"}):
        sha.update(f"{name}={dataset.attrs[name]}".encode())
    return sha.hexdigest()
