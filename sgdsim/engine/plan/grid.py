"""The points of a run: every batch size with every setting of the optimizer, in one program."""

from __future__ import annotations

import builtins
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from sgdsim import _checks
from sgdsim._specs import remember, set_field
from sgdsim._types import cast
from sgdsim.engine.plan.passes import Point
from sgdsim.engine.plan.request import Request, check_decays
from sgdsim.engine.run.advance import Shared
from sgdsim.kernels import Kernel, kernel_table
from sgdsim.optimizers import Optimizer, resolve
from sgdsim.optimizers.base import constant
from sgdsim.problems import BatchSizes, Problem, check_batch_sizes, check_sampling


class Grid(NamedTuple):
    """What a run combines."""

    batches: list[np.ndarray]  # of each kernel: the batch size of every step, or the one of all
    sampling: str
    optimizers: list[Optimizer]  # of each point; none where an optax transformation was given
    points: tuple[Point, ...]
    axes: dict[str, list[float]]  # by name, where there are any


# A run's points follow from what is asked for besides.
MakeGrid = Callable[[Request], Grid]


def one_point(problem: Problem, optimizer: object, batch_size: BatchSizes, sampling: str | None) -> MakeGrid:
    """One batch size, or a schedule of them, and one optimizer."""

    def make(request: Request) -> Grid:
        sizes, mode = check_batch_sizes(problem, batch_size, request.steps, sampling)
        said = int(sizes[0]) if len(sizes) == 1 else sizes.tolist()
        known = [] if request.optimizer is None else [request.optimizer]
        return Grid([sizes], mode, known, (Point(0, 0, said, mode, optimizer),), {})

    return make


def combinations(
    problem: Problem, optimizer: object, batch_size: Sequence[BatchSizes] | BatchSizes,
    swept: Mapping[str, Sequence[float] | float | None], sampling: str | None, zip: bool,
) -> MakeGrid:
    """Every batch size with every value of the hyperparameters in `swept`, or side by side with `zip`.

    Where a batch size is a schedule, the axis counts them.
    """

    def make(request: Request) -> Grid:
        known = _swept_optimizer(request, optimizer, swept["learning_rate"])
        own = {"learning_rate": constant(known.learning_rate)} if swept["learning_rate"] is None else {}
        values = dict(swept) | own
        listed = _batch_axis(batch_size, zip)
        sizes = [check_batch_sizes(problem, b, request.steps, sampling) for b in listed]
        said = [int(size[0]) if len(size) == 1 else size.tolist() for size, _ in sizes]
        first = "batch_size" if all(isinstance(b, int) for b in said) else "schedule"
        axes: dict[str, list[float]] = {first: list(range(len(said)))}
        for name, given in values.items():
            axes[name] = [_number(known, name, value) for value in check_axis(name, given, zip)]
        settings = _side_by_side(axes, said) if zip else [
            dict(builtins.zip(axes, point, strict=True)) for point in itertools.product(*axes.values())
        ]
        kernel = [said.index(b) for b in said]
        distinct = sorted(set(kernel))
        optimizers = [_with(known, {name: point[name] for name in values}) for point in settings]
        for each in optimizers:
            check_decays(each, request.dtype)
        rows = [int(point[first]) for point in settings]
        points = tuple(Point(distinct.index(kernel[row]), k, said[row], sizes[row][1], optimizers[k])
                       for k, row in enumerate(rows))
        if first == "batch_size":
            axes[first] = [b for b in said if isinstance(b, int)]
        return Grid([sizes[k][0] for k in distinct], points[0].sampling, optimizers, points, axes)

    return make


def batch_sizes(problem: Problem, optimizer: object, batch_size: Sequence[int] | int, sampling: str | None) -> MakeGrid:
    """One or several batch sizes with one optimizer."""

    def make(request: Request) -> Grid:
        sizes = [check_sampling(problem, b, sampling) for b in check_axis("batch_size", batch_size)]
        known = [] if request.optimizer is None else [request.optimizer] * len(sizes)
        points = tuple(Point(i, i, size, mode, optimizer) for i, (size, mode) in enumerate(sizes))
        return Grid([np.array([size]) for size, _ in sizes], sizes[0][1], known, points, {})

    return make


def share(problem: Problem, kernels: Sequence[Kernel], grid: Grid, request: Request) -> Shared:
    """What every block sees, in the dtype of the chains; the optimizers of all points are one, its leaves stacked."""
    resolved = [resolve(optimizer, problem, int(grid.batches[point.kernel][0]))
                for optimizer, point in zip(grid.optimizers, grid.points, strict=bool(grid.optimizers))]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *resolved) if resolved else None
    return cast(Shared(kernel_table(kernels), stacked, remember(problem), request.statistics), request.dtype)


def check_axis(name: str, values: object, repeats: bool = False) -> list[float]:
    """One or more values, distinct unless they may repeat."""
    points = _checks.sequence(name, values)
    if not points or (not repeats and len({str(point) for point in points}) < len(points)):
        raise _checks.error(name, values, "one or more distinct values", f"try {name}=[1, 2]")
    return points


def _batch_axis(batch_size: Sequence[BatchSizes] | BatchSizes, repeats: bool) -> list[BatchSizes]:
    """Numbers, functions of the step and lists with one number a step."""
    if callable(batch_size):
        return [batch_size]
    if any(callable(b) or np.ndim(b) for b in np.atleast_1d(np.asarray(batch_size, dtype=object)).tolist()):
        return list(batch_size)  # type: ignore[arg-type]
    return check_axis("batch_size", batch_size, repeats)  # type: ignore[return-value]


def _swept_optimizer(request: Request, optimizer: object, learning_rate: object) -> Optimizer:
    known = request.optimizer
    if known is None:
        remedy = "the rate of an optax transformation is fixed: use ss.SGD or ss.Adam"
        raise _checks.error("optimizer", optimizer, "a sgdsim optimizer", remedy)
    if learning_rate is None and callable(known.learning_rate):
        raise _checks.error("learning_rate", None, "a list of rates",
                            "sweep over a sgdsim optimizer such as ss.SGD, with learning_rate=[...]")
    return known


def _side_by_side(axes: dict[str, list[float]], sizes: list[int | list[int]]) -> list[dict[str, float]]:
    """One setting for each place in the lists; single values serve all."""
    count = max(map(len, axes.values()))
    for name, values in axes.items():
        if len(values) not in (1, count):
            of_sizes = name in ("batch_size", "schedule")
            raise _checks.error("batch_size" if of_sizes else name, sizes if of_sizes else values,
                                f"one value or {count}, with zip=True", "give all lists the same length")
    return [{name: values[i % len(values)] for name, values in axes.items()} for i in range(count)]


def _number(optimizer: Optimizer, name: str, value: object) -> float:
    """A value of a hyperparameter, checked by the optimizer itself."""
    names = [field.name for field in dataclasses.fields(optimizer)  # type: ignore[arg-type]
             if not field.metadata.get("static") and field.name not in ("preconditioner", "fisher", "V", "S")]
    _checks.choice("hyperparameter", name, names)
    number = _checks.real(name, value, "a number", f"try {name}=[0.1, 0.2]")
    dataclasses.replace(optimizer, **{name: number})  # type: ignore[type-var]
    return number


def _with(optimizer: Optimizer, values: dict[str, float]) -> Optimizer:
    """The optimizer with other numbers, as arrays even where they are 0: all points are of one structure."""
    changed: Optimizer = dataclasses.replace(optimizer, **values)  # type: ignore[type-var]
    set_field(changed, **{name: np.asarray(value) for name, value in values.items()})
    return changed
