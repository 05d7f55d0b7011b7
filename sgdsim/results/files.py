"""Save results as NetCDF and load them back, exactly."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sgdsim import _checks
from sgdsim._version import __version__
from sgdsim.results.export import from_xarray, to_xarray
from sgdsim.results.gradient_variance_result import GradientVarianceResult
from sgdsim.results.result import Result
from sgdsim.results.sweep_result import SweepResult

FORMAT = 2  # 1 had no digest, no kind, and of a sweep the format in its first group


def save(result: Result | SweepResult | GradientVarianceResult, path: str | Path) -> Path:
    """Write NetCDF atomically: the file is complete or not there, and what was there before stays until then.

    A sweep has one group a point. Each group carries a digest of its content, which `load` checks.

    Raises:
        ImportError: xarray or h5netcdf is not installed.
        ValueError: the folder does not exist, or the path is a folder.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise _checks.error("path", _shown(path), "inside an existing folder", f"create {path.parent} first")
    if path.is_dir():
        raise _checks.error("path", _shown(path), "a file", f"it is a folder: try {path / 'result.nc'}")
    xr = _checks.need("xarray", "results")
    _checks.need("h5netcdf", "results")
    if isinstance(result, SweepResult):
        groups = {f"point_{i}": to_xarray(one) for i, one in enumerate(result.results)}
        root, axes = xr.Dataset(), json.dumps(result.axes)
    else:
        groups, root, axes = {}, to_xarray(result), "null"
    if jax.distributed.is_initialized() and jax.process_index() > 0:
        return path  # every host of a cluster has the same result: the first one writes it
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        root.attrs |= {"format": FORMAT, "written_by": f"sgdsim {__version__}", "axes": axes}
        _with_digest(root).to_netcdf(partial, mode="w", engine="h5netcdf")
        for name, dataset in groups.items():
            _with_digest(dataset).to_netcdf(partial, mode="a", engine="h5netcdf", group=name)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def load(path: str | Path) -> Any:
    """Read what `save` of a `Result`, `SweepResult` or `GradientVarianceResult` wrote; nothing in a file is executed.

    Args:
        path: a NetCDF file.

    Returns:
        A `Result`, a `SweepResult` or a `GradientVarianceResult`, equal to what was saved in every field.

    Raises:
        ValueError: there is no such file, it is damaged or no sgdsim result, or a newer sgdsim wrote it.
        ImportError: xarray or h5netcdf is not installed.
    """
    xr = _checks.need("xarray", "results")
    _checks.need("h5netcdf", "results")
    if not isinstance(path, str | os.PathLike):
        raise _checks.error("path", path, "a path", "try ss.load('run.nc')")
    path = Path(path)
    if not path.is_file():
        raise _checks.error("path", _shown(path), "an existing file", "check the path")
    try:
        # Asked first: h5netcdf leaves half-open files behind where there is nothing to open.
        with _checks.need("h5py", "results").File(path):
            pass
    except OSError as broken:
        raise _checks.error("path", _shown(path), f"a NetCDF file ({_reason(broken)})", "it may be truncated") from None
    try:
        groups = {}
        for name, group in xr.open_groups(path, engine="h5netcdf").items():
            with group:
                groups[name] = group.load()
    except Exception as broken:  # the readers below raise almost anything on damaged metadata
        raise _damaged(path, broken) from broken
    root = groups["/"] if "format" in groups["/"].attrs else groups.get("/point_0", groups["/"])
    _check_format(path, root)
    try:
        if any(_digest(group) != group.attrs["digest"] for group in groups.values() if "digest" in group.attrs):
            raise ValueError("its digest differs from its content")
        axes = json.loads(root.attrs["axes"])
        if axes is None:
            return from_xarray(root)
        return SweepResult(axes, [from_xarray(groups[f"/point_{i}"]) for i in range(len(groups) - 1)])
    except (KeyError, TypeError, ValueError) as broken:
        raise _damaged(path, broken) from broken


def _check_format(path: Path, root: Any) -> None:
    version = root.attrs.get("format")
    if not isinstance(version, int | np.integer):
        raise _checks.error("path", _shown(path), "a file that sgdsim wrote", "write one with result.save(path)")
    if version > FORMAT:
        writer = root.attrs.get("written_by", "a newer sgdsim")
        here = f"which is what sgdsim {__version__} reads"
        reads = f"of format {FORMAT} or older, {here} (it is of format {version}, by {writer})"
        raise _checks.error("path", _shown(path), reads, "upgrade sgdsim")


def _damaged(path: Path, broken: Exception) -> ValueError:
    return _checks.error("path", _shown(path), f"an undamaged result ({_reason(broken)})",
                         "take it from a backup, or run again")


def _reason(broken: Exception) -> str:
    """What went wrong, on one line of bounded length."""
    return " ".join(f"{type(broken).__name__}: {broken}".split())[:160]


def _shown(path: Path) -> str:
    """The path as a complaint shows it: of a long one the end, where the name is."""
    text = str(path)
    return text if len(text) <= 55 else "..." + text[-52:]


def _with_digest(dataset: Any) -> Any:
    return dataset.assign_attrs(digest=_digest(dataset))


def _digest(dataset: Any) -> str:
    """SHA-256 of the names, types, shapes and bytes of every variable, and of the attributes."""
    sha = hashlib.sha256()
    for name in sorted(dataset.variables):
        values = np.ascontiguousarray(dataset.variables[name].to_numpy())
        if values.dtype.kind in "OUST":
            values = values.astype(str)
        sha.update(f"{name} {values.dtype.str} {values.shape}".encode())
        sha.update(values.tobytes())
    for name in sorted(set(dataset.attrs) - {"digest"}):
        sha.update(f"{name}={dataset.attrs[name]}".encode())
    return sha.hexdigest()
