"""Results as xarray datasets with named dimensions."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from sgdsim._checks import need
from sgdsim.results.result import Result

_DIMENSIONS = {
    "mean": ("parameter",),
    "covariance": ("parameter", "parameter_"),
    "noise_covariance": ("parameter", "parameter_"),
    "train_loss": (),
    "test_loss": (),
    "kurtosis": ("parameter",),
    "variance": ("parameter",),
    "ess": ("parameter",),
    "rhat": ("parameter",),
    "tail": ("rank",),
    "tail_group": ("rank",),
    "final": ("chain", "parameter"),
    "snapshots": ("snapshot", "snapshot_chain", "parameter"),
}
_NOTES = {
    "covariance": "stationary covariance Sigma of the parameters",
    "noise_covariance": "averaged covariance C of the minibatch-mean gradient",
    "train_loss": "expected loss being minimised, label noise and penalty included",
    "test_loss": "excess loss",
    "kurtosis": "E d^4 / (E d^2)^2; 3 for a Gaussian",
    "ess": "effective sample size of the mean",
    "rhat": "nested split R-hat",
    "tail": "largest deviations |w - minimum| over chains and measured steps",
    "tail_group": "independent group of chains of each of `tail`",
    "tail_seen": "number of (chain, measured step) pairs behind `tail`",
}


def _dimensions(name: str, value: Any) -> tuple[str, ...]:
    known = _DIMENSIONS.get(name.removesuffix("_stderr"))
    if known is not None and len(known) == np.ndim(value):
        return known
    return tuple(f"{name}_{axis}" for axis in range(np.ndim(value)))


def _variable(name: str, value: Any, prefix: tuple[str, ...] = ()) -> tuple[Any, ...]:
    inner = value[0] if prefix else value
    base = name.removesuffix("_stderr")
    note = _NOTES.get(base, base)
    text = f"standard error of {note}" if name.endswith("_stderr") else note
    return (*prefix, *_dimensions(name, inner)), np.asarray(value), {"description": text}


def to_xarray(result: Result) -> Any:
    """An `xarray.Dataset`: one variable a quantity, provenance in the attributes as JSON.

    Time series have the prefix `record_` and the dimension `step`.

    Raises:
        ImportError: xarray is not installed.
    """
    xr = need("xarray", "results")
    variables: dict[str, Any] = {}
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        if isinstance(value, np.ndarray | np.generic | float):
            variables[field.name] = _variable(field.name, value)
    for name, value in result.extra.items():
        variables[name] = _variable(name, value)
    coordinates = {}
    for name, value in (result.record or {}).items():
        if name == "step":
            coordinates["step"] = value
        else:
            dimensions, array, note = _variable(name, value, ("step",))
            variables[f"record_{name}"] = (dimensions, array, note)
    attributes = {
        "chains": result.chains,
        "diverged": result.diverged,
        "status": result.status,
        "extra": json.dumps(sorted(result.extra)),
        "provenance": json.dumps(result.provenance),
    }
    return xr.Dataset(variables, coordinates, attributes)


def from_xarray(dataset: Any) -> Result:
    """The `Result` that `to_xarray` wrote."""
    extra_names = json.loads(dataset.attrs["extra"])
    fields: dict[str, Any] = {field.name: None for field in dataclasses.fields(Result)}
    extra, record = {}, {}
    for name, variable in dataset.data_vars.items():
        value = variable.to_numpy()[()]
        if name in extra_names:
            extra[name] = value
        elif name.startswith("record_"):
            record[name.removeprefix("record_")] = value
        else:
            fields[name] = value
    if "step" in dataset.coords:
        record["step"] = dataset["step"].to_numpy()
    fields |= {
        "chains": int(dataset.attrs["chains"]),
        "diverged": int(dataset.attrs["diverged"]),
        "status": str(dataset.attrs["status"]),
        "provenance": json.loads(dataset.attrs["provenance"]),
        "record": record or None,
        "extra": extra,
    }
    return Result(**fields)
