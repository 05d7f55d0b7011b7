"""What a sweep returns: a result for every point of a grid with named axes."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim import _checks, _html, _labels
from sgdsim._checks import need
from sgdsim.estimators.jackknife import Estimate
from sgdsim.optimizers import Optimizer
from sgdsim.problems import Problem
from sgdsim.results import netcdf
from sgdsim.results.dataset import stack
from sgdsim.results.derive import Function, jackknifed
from sgdsim.results.result import Result

if TYPE_CHECKING:
    import xarray as xr


@dataclasses.dataclass(frozen=True, eq=False)
class SweepResult:
    """Results on a grid; any quantity of `Result` is an attribute stacked along the axes.

    Attributes:
        axes: name of each axis and its values, in order.
        results: one `Result` for each point, the last axis running fastest.
        origin: the problem and the optimizer of each point, where the sweep comes from no file.
    """

    axes: dict[str, list[Any]]
    results: list[Result]
    origin: dataclasses.InitVar[tuple[Problem, Sequence[Optimizer]] | None] = None  # in no file, hence no field

    def __post_init__(self, origin: tuple[Problem, Sequence[Optimizer]] | None) -> None:
        object.__setattr__(self, "_origin", origin)

    @property
    def problem(self) -> Problem | None:
        """What was learned; None where the sweep comes from a file."""
        return self.__dict__["_origin"] and self.__dict__["_origin"][0]

    @property
    def optimizers(self) -> Sequence[Optimizer]:
        """Of each point; none where the sweep comes from a file."""
        return self.__dict__["_origin"][1] if self.__dict__["_origin"] else ()

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
        """One row a point: its test loss and how it went."""
        rows = []
        for point, one in self.points():
            loss = ("", "")
            if one.test_loss is not None:
                loss = _labels.brief(one.test_loss), _labels.brief(one.test_loss_stderr, 2)
            status = one.status if not one.diverged else f"{one.status}: {one.diverged} of {one.chains}"
            rows.append((*(f"{value:g}" for value in point.values()), *loss, status))
        return _html.table(repr(self), (*self.axes, "test_loss", "stderr", "status"), rows)

    def __getattr__(self, name: str) -> np.ndarray:
        """`Result.name` of every point, shape (*self.shape, ...)."""
        results = self.__dict__.get("results", [])
        if name.startswith("_") or not any(hasattr(result, name) for result in results):
            raise AttributeError(f"SweepResult has no {name!r}; it has what Result has, axes and results")
        values: list[Any] = [getattr(result, name, None) for result in results]
        if any(value is None or isinstance(value, Mapping) for value in values):
            return np.array(values, dtype=object).reshape(self.shape)
        return np.array(values).reshape(*self.shape, *np.shape(values[0]))

    def sel(self, **point: float) -> Result:
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

    def derive(self, function: Function, *, confidence: float = 0.95) -> Estimate:
        """`Result.derive` at every point: value, stderr and both ends of the interval of shape (*self.shape, ...)."""
        level = _checks.between_0_and_1("confidence", confidence, "0.95 is the default")
        value, stderr, ends = jackknifed(function, self.results).estimate(level)
        stacked = [x.reshape(*self.shape, *np.shape(value)[1:]) for x in map(np.asarray, (value, stderr, *ends))]
        return Estimate(stacked[0], stacked[1], (stacked[2], stacked[3]))

    def save(self, path: str | Path) -> Path:
        """Write NetCDF, one group a point; `ss.load` reads it back exactly.

        Raises:
            ImportError: xarray or h5netcdf is not installed.
            ValueError: the folder does not exist, or the path is a folder.
        """
        root = need("xarray", "results").Dataset(attrs={"axes": json.dumps(self.axes)})
        points = {f"point_{i}": one.to_xarray(groups=True) for i, one in enumerate(self.results)}
        return netcdf.write(path, root, points)

    def to_xarray(self) -> xr.Dataset:
        """An `xarray.Dataset` with batch_size and learning_rate as first dimensions of every variable.

        Where chains diverged in some points, fewer snapshots are filled up with NaN (whole numbers with -1).
        """
        dataset = stack([result.to_xarray() for result in self.results], self.axes)
        for name in ("diverged", "status"):
            dataset[name] = (tuple(self.axes), getattr(self, name))
        origins = [result.provenance for result in self.results]
        shared = {key: value for key, value in origins[0].items() if all(o.get(key) == value for o in origins)}
        return dataset.assign_attrs(kind="SweepResult", equations=_labels.EQUATIONS, chains=self.results[0].chains,
                                    provenance=json.dumps(shared))

    def points(self) -> list[tuple[dict[str, Any], Result]]:
        """Every point of the grid with its result."""
        grid = itertools.product(*self.axes.values())
        return [(dict(zip(self.axes, values, strict=True)), r) for values, r in zip(grid, self.results, strict=True)]
