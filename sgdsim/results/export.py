"""Results as xarray datasets with named dimensions, and as ArviZ's InferenceData."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from sgdsim import _checks, _labels
from sgdsim._checks import need
from sgdsim.results.export_variance import variance_from_xarray, variance_to_xarray
from sgdsim.results.gradient_variance_result import GradientVarianceResult
from sgdsim.results.result import Result
from sgdsim.results.sweep_result import SweepResult

_DICTIONARIES = ("extra", "record")


def to_xarray(result: Result | SweepResult | GradientVarianceResult) -> Any:
    """An `xarray.Dataset`: one variable a quantity, with description, units and equation; provenance as JSON.

    Time series have the prefix `record_` and the dimension `step`. A sweep has the dimensions batch_size and
    learning_rate in front; where chains diverged in some points, fewer snapshots are filled up with NaN (whole numbers
    with -1).

    Raises:
        ImportError: xarray is not installed.
    """
    if isinstance(result, SweepResult):
        return _sweep_to_xarray(result)
    if isinstance(result, GradientVarianceResult):
        return variance_to_xarray(result)
    return _result_to_xarray(result)


def from_xarray(dataset: Any) -> Any:
    """The `Result` (of a sweep, that of one point) or `GradientVarianceResult` described; exact for every field."""
    if dataset.attrs.get("kind") == "GradientVarianceResult":
        return variance_from_xarray(dataset)
    extra_names = json.loads(dataset.attrs["extra"])
    required = [field.name for field in dataclasses.fields(Result) if field.default is dataclasses.MISSING]
    fields: dict[str, Any] = dict.fromkeys(required)  # what an older file lacks has its default
    extra: dict[str, Any] = dict.fromkeys(extra_names)
    record = {}
    for name, variable in dataset.data_vars.items():
        value = variable.to_numpy()[()]
        if name in extra:
            extra[name] = value
        elif name.startswith("record_"):
            record[name.removeprefix("record_")] = value
        else:
            fields[name] = value
    if "step" in dataset.coords:
        record = {"step": dataset["step"].to_numpy(), **record}
    for field in dataclasses.fields(Result):
        if field.name in dataset.attrs and field.name not in _DICTIONARIES:
            fields[field.name] = _from_attribute(str(field.type), dataset.attrs[field.name])
    return Result(**fields | {"record": record or None, "extra": extra})


def to_inferencedata(result: Result, source: str = "snapshots") -> Any:
    """ArviZ's `InferenceData` with one variable `w` (chain, draw, parameter) in the group posterior.

    Args:
        result: what `simulate` returned.
        source: "snapshots" (some chains at several measured steps, far apart) or "final" (every chain after the last
            step, one draw a chain). Chains that diverged are left out.

    Raises:
        ImportError: arviz below 1.0 is not installed.
        ValueError: there are no such draws.
    """
    arviz = need("arviz", "diagnostics")
    xr = need("xarray", "results")
    if not hasattr(arviz, "InferenceData"):
        raise ImportError("this needs arviz below 1.0, which has InferenceData; pip install 'sgdsim[diagnostics]'")
    _checks.choice("source", source, ("snapshots", "final"))
    kept = result.final if source == "final" else result.snapshots
    draws = np.empty((0, 0, 0)) if kept is None else np.asarray(kept, np.float64)
    draws = draws[np.isfinite(draws).all(axis=1)][:, None] if source == "final" else draws.swapaxes(0, 1)
    if draws.size == 0:
        raise _checks.error("source", source, "with draws in it", "simulate more than burn_in steps with statistics")
    coordinates = {name: np.arange(n) for name, n in zip(("chain", "draw", "parameter"), draws.shape, strict=True)}
    variables = {"w": (("chain", "draw", "parameter"), draws, _labels.attributes(source))}
    attributes = {"inference_library": "sgdsim", "source": source, "provenance": json.dumps(result.provenance)}
    return arviz.InferenceData(posterior=xr.Dataset(variables, coordinates, attributes))


def _variable(name: str, value: Any, prefix: tuple[str, ...] = ()) -> tuple[Any, ...]:
    ndim = np.ndim(value) - len(prefix)
    return (*prefix, *_labels.dimensions(name, ndim)), np.asarray(value), _labels.attributes(name)


def _result_to_xarray(result: Result) -> Any:
    xr = need("xarray", "results")
    variables: dict[str, Any] = {}
    attributes: dict[str, Any] = {"kind": "Result", "equations": _labels.EQUATIONS}
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        if field.name in _DICTIONARIES or value is None:
            continue
        if isinstance(value, np.ndarray | np.generic | float):
            variables[field.name] = _variable(field.name, value)
        else:
            attributes[field.name] = value if field.type in ("int", "str") else json.dumps(value)
    attributes["extra"] = json.dumps(sorted(result.extra))
    variables |= {name: _variable(name, value) for name, value in result.extra.items() if value is not None}
    coordinates: dict[str, Any] = {}
    for name, value in (result.record or {}).items():
        if name == "step":
            coordinates["step"] = ("step", value, {"description": "optimizer steps before the measurement"})
        else:
            variables[f"record_{name}"] = _variable(name, value, ("step",))
    if result.mean is not None:
        coordinates["parameter"] = np.arange(np.size(result.mean))
    if "batch_size" in result.provenance:
        coordinates["batch_size"] = result.provenance["batch_size"]
    return xr.Dataset(variables, coordinates, attributes)


def _from_attribute(kind: str, value: Any) -> Any:
    return {"int": int, "str": str}.get(kind, json.loads)(value)


def _sweep_to_xarray(sweep: SweepResult) -> Any:
    xr = need("xarray", "results")
    points = [_result_to_xarray(result) for result in sweep.results]
    grid = tuple(sweep.axes)
    variables: dict[str, Any] = {}
    for name in dict.fromkeys(name for point in points for name in point.data_vars):
        known = [point.get(name) for point in points]
        first = next(array for array in known if array is not None)
        values = _stacked([None if array is None else array.to_numpy() for array in known])
        variables[name] = (grid + first.dims, values.reshape(*sweep.shape, *values.shape[1:]), first.attrs)
    for name in ("diverged", "status"):
        variables[name] = (grid, np.reshape([getattr(result, name) for result in sweep.results], sweep.shape))
    coordinates = {name: points[0][name] for name in ("step", "parameter") if name in points[0].coords}
    origins = [result.provenance for result in sweep.results]
    shared = {name: value for name, value in origins[0].items() if all(other.get(name) == value for other in origins)}
    attributes = {"kind": "SweepResult", "equations": _labels.EQUATIONS, "chains": sweep.results[0].chains,
                  "extra": points[0].attrs["extra"], "provenance": json.dumps(shared)}
    return xr.Dataset(variables, coordinates | {name: list(values) for name, values in sweep.axes.items()}, attributes)


def _stacked(arrays: list[Any]) -> np.ndarray:
    """Arrays of one rank in the corners of a common shape; what is not there is NaN, or -1 among whole numbers."""
    there = [array for array in arrays if array is not None]
    shape = np.max([array.shape for array in there], axis=0).astype(int)
    whole = there[0].dtype.kind in "iu"
    out = np.full((len(arrays), *shape), -1 if whole else np.nan, dtype=there[0].dtype if whole else np.float64)
    for i, array in enumerate(arrays):
        if array is not None:
            corner: Any = (i, *(slice(length) for length in array.shape))
            out[corner] = array
    return out
