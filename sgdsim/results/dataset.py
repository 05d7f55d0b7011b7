"""Arrays by name to and from xarray, with named dimensions, units and descriptions; of what class, it knows not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _labels
from sgdsim._checks import need

if TYPE_CHECKING:
    import xarray as xr

# Dimensions, values and attributes of one variable, as xarray takes them.
Variable = tuple[tuple[str, ...], np.ndarray, dict[str, str]]


def variable(name: str, value: ArrayLike, prefix: tuple[str, ...] = ()) -> Variable:
    """What is known of a quantity by its name; `prefix` are dimensions in front of its own."""
    array = np.asarray(value)
    return (*prefix, *_labels.dimensions(name, array.ndim - len(prefix))), array, _labels.attributes(name)


def arrays_of(dataset: xr.Dataset) -> dict[str, Any]:
    """The variables of a dataset as NumPy arrays, those without dimensions as NumPy numbers."""
    return {str(name): values.to_numpy()[()] for name, values in dataset.data_vars.items()}


def stack(points: Sequence[xr.Dataset], axes: Mapping[str, Sequence[float]]) -> xr.Dataset:
    """Datasets of all points of a grid as one, its axes in front of every dimension; attributes are those of none.

    Where arrays differ in shape, the shorter ones are filled up with NaN, whole numbers with -1.
    """
    xr = need("xarray", "results")
    grid, shape = tuple(axes), tuple(len(values) for values in axes.values())
    variables = {}
    for name in dict.fromkeys(name for point in points for name in point.data_vars):
        known = [point.get(name) for point in points]
        first = next(array for array in known if array is not None)
        values = _in_one_shape([None if array is None else array.to_numpy() for array in known])
        variables[name] = (grid + first.dims, values.reshape(*shape, *values.shape[1:]), first.attrs)
    coordinates = {name: points[0][name].variable for name in ("step", "parameter") if name in points[0].coords}
    return xr.Dataset(variables, coordinates | {name: list(values) for name, values in axes.items()})


def _in_one_shape(arrays: Sequence[np.ndarray | None]) -> np.ndarray:
    """Arrays of one rank in the corners of a common shape; what is not there is NaN, or -1 among whole numbers."""
    there = [array for array in arrays if array is not None]
    shape = np.max([array.shape for array in there], axis=0).astype(int)
    whole = there[0].dtype.kind in "iu"
    out = np.full((len(arrays), *shape), -1 if whole else np.nan, dtype=there[0].dtype if whole else np.float64)
    for i, array in enumerate(arrays):
        if array is not None:
            corner = tuple(slice(length) for length in array.shape)
            out[i, ...][corner] = array
    return out
