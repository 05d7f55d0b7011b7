"""Draws for ArviZ: its `InferenceData`, or from version 1.0 on the `xarray.DataTree` that took its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from sgdsim import _labels
from sgdsim._checks import need


def posterior(draws: np.ndarray, source: str, provenance: Mapping[str, object]) -> Any:
    """The group posterior with one variable `w`.

    Args:
        draws: of shape (chain, draw, parameter).
        source: what the draws are, "snapshots" or "final".
        provenance: of the result, stored as JSON.

    Raises:
        ImportError: ArviZ is not installed.
    """
    arviz = need("arviz", "diagnostics")
    xr = need("xarray", "results")
    names = ("chain", "draw", "parameter")
    coordinates = {name: np.arange(n) for name, n in zip(names, draws.shape, strict=True)}
    attributes = {"inference_library": "sgdsim", "source": source, "provenance": json.dumps(provenance)}
    dataset = xr.Dataset({"w": (names, draws, _labels.attributes(source))}, coordinates, attributes)
    if arviz.__version__.startswith("0."):
        return arviz.InferenceData(posterior=dataset)
    return xr.DataTree.from_dict({"posterior": dataset})
