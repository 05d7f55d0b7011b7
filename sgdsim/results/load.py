"""Load what `save` of any result wrote, exactly."""

from __future__ import annotations

import json
from pathlib import Path

from sgdsim.results import netcdf
from sgdsim.results.gradient_variance_result import GradientVarianceResult
from sgdsim.results.result import Result
from sgdsim.results.sweep_result import SweepResult


def load(path: str | Path) -> Result | SweepResult | GradientVarianceResult:
    """Read what `save` of a `Result`, `SweepResult` or `GradientVarianceResult` wrote; nothing in a file is executed.

    Args:
        path: a NetCDF file.

    Returns:
        A `Result`, a `SweepResult` or a `GradientVarianceResult`, equal to what was saved in every field.

    Raises:
        ValueError: there is no such file, it is damaged or no sgdsim result, or a newer sgdsim wrote it.
        ImportError: xarray or h5netcdf is not installed.
    """
    root, groups = netcdf.read(path)
    try:
        axes = json.loads(root.attrs.get("axes", "null"))
        if axes is not None:
            return SweepResult(axes, [Result.from_xarray(groups[f"point_{i}"]) for i in range(len(groups))])
        if root.attrs.get("kind") == "GradientVarianceResult":
            return GradientVarianceResult.from_xarray(root)
        return Result.from_xarray(root)
    except (KeyError, TypeError, ValueError) as broken:
        raise netcdf.damaged(path, broken) from broken
