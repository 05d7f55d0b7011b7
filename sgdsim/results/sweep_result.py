"""What a sweep returns: a result for every point of a grid with named axes."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from sgdsim import _checks
from sgdsim.results.result import Result
from sgdsim.results.show import sweep_html


@dataclasses.dataclass(frozen=True, eq=False)
class SweepResult:
    """Results on a grid; any quantity of `Result` is an attribute stacked along the axes.

    Attributes:
        axes: name of each axis and its values, in order.
        results: one `Result` for each point, the last axis running fastest.
    """

    axes: dict[str, list[Any]]
    results: list[Result]

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(len(values) for values in self.axes.values())

    def __repr__(self) -> str:
        one = self.results[0]
        axes = ", ".join(f"{name}={values}" for name, values in self.axes.items())
        troubled = sum(result.status != "ok" for result in self.results)
        return (f"SweepResult({one.provenance.get('problem')}, {axes}, chains={one.chains}, "
                f"{len(self.results)} points, {troubled} not ok)")

    def _repr_html_(self) -> str:
        return sweep_html(self)

    def __getattr__(self, name: str) -> Any:
        """`Result.name` of every point, shape (*self.shape, ...)."""
        if name.startswith("_") or name not in Result.__dataclass_fields__:
            raise AttributeError(f"SweepResult has no {name!r}; it has the fields of Result, axes and results")
        values = [getattr(result, name) for result in self.results]
        if any(value is None or isinstance(value, dict) for value in values):
            return np.array(values, dtype=object).reshape(self.shape)
        return np.array(values).reshape(*self.shape, *np.shape(values[0]))

    def sel(self, **point: Any) -> Result:
        """The result at one point, e.g. `sel(batch_size=8, learning_rate=0.1)`; axes of length 1 may be left out."""
        index = 0
        for name, values in self.axes.items():
            value = point.pop(name, values[0] if len(values) == 1 else None)
            matches = [i for i, known in enumerate(values) if value is not None and np.isclose(known, value)]
            if not matches:
                raise _checks.error(name, value, f"one of {values}", "choose a point of the grid")
            index = index * len(values) + matches[0]
        if point:
            raise _checks.error("axis", next(iter(point)), f"one of {list(self.axes)}", "choose an axis of the sweep")
        return self.results[index]

    def save(self, path: str | Path) -> Path:
        """Write NetCDF, one group a point; `ss.load` reads it back exactly."""
        from sgdsim.results.files import save

        return save(self, path)

    def to_xarray(self) -> Any:
        """An `xarray.Dataset` with batch_size and learning_rate as first dimensions of every variable.

        Where chains diverged, fewer snapshots are filled up with NaN.
        """
        from sgdsim.results.export import to_xarray

        return to_xarray(self)

    def points(self) -> list[tuple[dict[str, Any], Result]]:
        """Every point of the grid with its result."""
        grid = itertools.product(*self.axes.values())
        return [(dict(zip(self.axes, values, strict=True)), r) for values, r in zip(grid, self.results, strict=True)]
