"""Save results as NetCDF and load them back, exactly."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from sgdsim import _checks
from sgdsim.results.export import from_xarray, to_xarray
from sgdsim.results.result import Result
from sgdsim.results.sweep_result import SweepResult

FORMAT = 1


def save(result: Result | SweepResult, path: str | Path) -> Path:
    """Write NetCDF atomically: the file is complete or not there.

    Raises:
        ImportError: xarray or h5netcdf is not installed.
        ValueError: the folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise _checks.error("path", str(path), "inside an existing folder", f"create {path.parent} first")
    _checks.need("h5netcdf", "results")
    axes = result.axes if isinstance(result, SweepResult) else None
    results = result.results if isinstance(result, SweepResult) else [result]
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    os.close(handle)
    try:
        for i, one in enumerate(results):
            dataset = to_xarray(one)
            if i == 0:
                dataset.attrs |= {"format": FORMAT, "axes": json.dumps(axes)}
            group = {"group": f"point_{i}"} if axes else {}
            dataset.to_netcdf(name, mode="a" if i else "w", engine="h5netcdf", **group)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return path


def load(path: str | Path) -> Any:
    """Read what `Result.save` or `SweepResult.save` wrote; nothing in a file is executed.

    Args:
        path: a NetCDF file.

    Returns:
        A `Result` or a `SweepResult`.

    Raises:
        ValueError: there is no such file, it is no sgdsim result, or a newer sgdsim wrote it.
        ImportError: xarray or h5netcdf is not installed.
    """
    xr = _checks.need("xarray", "results")
    _checks.need("h5netcdf", "results")
    path = Path(path)
    if not path.is_file():
        raise _checks.error("path", str(path), "an existing file", "check the path")
    try:
        groups = {}
        for name, group in xr.open_groups(path, engine="h5netcdf").items():
            with group:
                groups[name] = group.load()
    except (OSError, ValueError) as broken:
        raise _checks.error("path", str(path), f"a NetCDF file ({broken})", "it may be truncated") from None
    first = groups.get("/point_0", groups["/"])
    version = first.attrs.get("format")
    if version is None:
        raise _checks.error("path", str(path), "a file that sgdsim wrote", "write one with result.save(path)")
    if int(version) > FORMAT:
        raise _checks.error("path", str(path), f"of format {FORMAT} or older (it is {version})", "upgrade sgdsim")
    axes = json.loads(first.attrs["axes"])
    if axes is None:
        return from_xarray(first)
    return SweepResult(axes, [from_xarray(groups[f"/point_{i}"]) for i in range(len(groups) - 1)])
