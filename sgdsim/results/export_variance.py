"""`GradientVarianceResult` as an xarray dataset and back."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from sgdsim import _labels
from sgdsim._checks import need
from sgdsim.results.gradient_variance_result import GradientVarianceResult, LayerVariance

_GRID = ("step", "batch_size")
_BY_LAYER = ("gradient", "full_gradient")
_TABLES = (*_BY_LAYER, "loss")
_NOTES = {
    "runs_left": "runs that had not diverged",
    "typical_run": "whether rare runs carry the exact variance, which this number then is not",
    "diverged": "runs that had diverged by the last row",
    "gradient_covariance": "covariance of the errors of `gradient` between batch sizes",
}


def variance_to_xarray(result: GradientVarianceResult) -> Any:
    """An `xarray.Dataset` with dimensions step, batch_size and, for a network, layer."""
    xr = need("xarray", "results")
    names = [name + end for name in _TABLES for end in ("", "_stderr")]
    variables: dict[str, Any] = {name: (_GRID, getattr(result, name), _labels.attributes(name)) for name in names}
    for name in ("runs_left", "typical_run"):
        variables[name] = (_GRID, getattr(result, name), _note(name))
    variables["diverged"] = (("batch_size",), result.diverged, _note("diverged"))
    coordinates: dict[str, Any] = {"step": result.step, "batch_size": result.batch_sizes}
    for name in _TABLES:
        variables[f"{name}_effective_runs"] = (_GRID, result.effective_runs[name])
    if result.by_layer:
        coordinates["layer"] = [layer.name for layer in result.by_layer]
        for name in names[:4]:
            values = np.stack([getattr(layer, name) for layer in result.by_layer])
            variables[f"layer_{name}"] = (("layer", *_GRID), values, _labels.attributes(name))
        for name in _BY_LAYER:
            values = np.stack([result.effective_runs[f"{name} {layer.name}"] for layer in result.by_layer])
            variables[f"layer_{name}_effective_runs"] = (("layer", *_GRID), values)
    if result.gradient_covariance is not None:
        covariance = result.gradient_covariance
        variables["gradient_covariance"] = ((*_GRID, "batch_size_"), covariance, _note("gradient_covariance"))
    attributes: dict[str, Any] = {"kind": "GradientVarianceResult", "warning": result.warning}
    for name, kind in _plain_fields().items():
        value = getattr(result, name)
        attributes[name] = value if kind in ("int", "str") else json.dumps(value)
    return xr.Dataset(variables, coordinates, attributes)


def variance_from_xarray(dataset: Any) -> GradientVarianceResult:
    """The result that `variance_to_xarray` described, exactly."""
    read = {name: variable.to_numpy() for name, variable in dataset.variables.items()}
    layers = [str(name) for name in read.get("layer", ())]
    effective = {name: read[f"{name}_effective_runs"] for name in _TABLES}
    for i, layer in enumerate(layers):
        effective |= {f"{name} {layer}": read[f"layer_{name}_effective_runs"][i] for name in _BY_LAYER}
    tables = {name + end: read[name + end] for name in _TABLES for end in ("", "_stderr")}
    by_layer = tuple(
        LayerVariance(layer, **{name: read[f"layer_{name}"][i] for name in tables if not name.startswith("loss")})
        for i, layer in enumerate(layers)
    )
    attributes = dataset.attrs
    plain = {
        name: {"int": int, "str": str}.get(kind, json.loads)(attributes[name]) for name, kind in _plain_fields().items()
    }
    return GradientVarianceResult(
        step=read["step"], batch_sizes=read["batch_size"], **tables, by_layer=by_layer,
        gradient_covariance=read.get("gradient_covariance"), runs_left=read["runs_left"], effective_runs=effective,
        diverged=read["diverged"], typical_run=read["typical_run"], **plain,
    )


def _plain_fields() -> dict[str, str]:
    """Name and type of every field that is neither an array nor made of arrays."""
    made_of_arrays = ("np.ndarray", "np.ndarray | None", "tuple[LayerVariance, ...]", "dict[str, np.ndarray]")
    fields = dataclasses.fields(GradientVarianceResult)
    return {field.name: str(field.type) for field in fields if str(field.type) not in made_of_arrays}


def _note(name: str) -> dict[str, str]:
    return {"description": _NOTES[name]}
