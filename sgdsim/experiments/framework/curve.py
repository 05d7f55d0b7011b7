"""A curve with theory beside it: what was simulated over one hyperparameter, its verdicts, its data and its figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Self, TypedDict, Unpack

import numpy as np

from sgdsim._types import Vector
from sgdsim.comparisons.comparison import DEFAULT_GROUPS
from sgdsim.comparisons.judge import judge
from sgdsim.experiments.framework.findings import Data, Drawing, Figure, Verdict
from sgdsim.experiments.framework.measure import doubtful, hold, scalar, scalar_stderr
from sgdsim.plots import curve, panels
from sgdsim.results import Result
from sgdsim.solver import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Point(NamedTuple):
    """What was simulated at one value of the hyperparameter, and what theory says of it."""

    x: float
    result: Result
    theory: Prediction


class Look(TypedDict, total=False):
    """How `sgdsim.plots.curve` shows a curve; see there."""

    xlabel: str
    ylabel: str
    title: str
    limits: Sequence[float]
    limit_label: str
    optimum: float
    log: str
    ylim: tuple[float, float]
    xticks: Sequence[float]


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """A quantity over a hyperparameter: simulated at a few values of it, predicted on a finer grid.

    Attributes:
        x: where it was simulated, shape (P,).
        simulated: shape (P,).
        stderr: shape (P,).
        fine: the finer grid, shape (L,).
        lines: theories by name, shape (L,) each.
        theory: what each simulated value is held against, shape (P,); None where whole results are.
        heavy: whether tails are too heavy for an error bar, for each point; None is never.
        points: the results behind the values, and their predictions.
    """

    x: Vector
    simulated: Vector
    stderr: Vector
    fine: Vector
    lines: Mapping[str, Vector]
    theory: Vector | None = None
    heavy: Sequence[bool] | None = None
    points: Sequence[Point] = ()

    @classmethod
    def of(cls, quantity: str, points: Sequence[Point], fine: Vector, lines: Mapping[str, Vector]) -> Self:
        """A number that results have by this name, or the trace of a covariance."""
        results = [point.result for point in points]
        return cls(
            x=np.array([point.x for point in points]),
            simulated=np.array([scalar(getattr(result, quantity)) for result in results]),
            stderr=np.array([scalar_stderr(getattr(result, f"{quantity}_stderr")) for result in results]),
            fine=fine, lines=lines, heavy=doubtful(results), points=points,
        )  # fmt: skip

    def at(self, places: Sequence[int] | np.ndarray) -> Self:
        """The simulated points of these numbers, with the same lines; for `judge`."""
        theory = None if self.theory is None else self.theory[places]
        return dataclasses.replace(self, x=self.x[places], simulated=self.simulated[places],
                                   stderr=self.stderr[places], theory=theory, heavy=None, points=())

    def hold(self, setting: str) -> list[Verdict]:
        """Every quantity of every result against its prediction; `setting` is a format of x."""
        return hold([(setting.format(x), result, theory) for x, result, theory in self.points])

    def judge(
        self, quantity: str, setting: str, *, error_rate: float, groups: int = DEFAULT_GROUPS
    ) -> list[Verdict]:
        """Every simulated value against `theory`; `setting` is a format of x."""
        assert self.theory is not None
        return [
            Verdict(setting.format(x), judge(quantity, float(value), float(error), float(expected),
                                             error_rate=error_rate, groups=groups))
            for x, value, error, expected in zip(self.x, self.simulated, self.stderr, self.theory, strict=True)
        ]  # fmt: skip

    def data(self, axis: str, quantity: str, prefix: str = "") -> Data:
        """The arrays by name: the axis, the quantity and its standard error, the finer axis and the lines on it."""
        here, there = (prefix + axis,), (f"{prefix}line_{axis}",)
        names = [quantity] if len(self.lines) == 1 else list(self.lines)
        return {
            here[0]: (here, self.x),
            prefix + quantity: (here, self.simulated),
            f"{prefix}{quantity}_stderr": (here, self.stderr),
            there[0]: (there, self.fine),
            **{f"{prefix}line_{name}": (there, line) for name, line in zip(names, self.lines.values(), strict=True)},
        }

    def scaled(self, unit: float) -> Self:
        """In other units, such as 100 for percent."""
        lines = {name: unit * line for name, line in self.lines.items()}
        return dataclasses.replace(self, simulated=unit * self.simulated, stderr=unit * self.stderr, lines=lines)

    def draw(self, ax: Axes, **look: Unpack[Look]) -> None:
        """Into a panel."""
        simulated = (self.x, self.simulated, self.stderr) if len(self.x) else None
        lines = {name: (self.fine, line) for name, line in self.lines.items()}
        curve(lines, simulated, ax=ax, doubtful=self.heavy, **look)

    def figure(self, caption: str, size: tuple[float, float] = (6.0, 4.0), **look: Unpack[Look]) -> Figure:
        """Alone in a figure."""

        def draw() -> Drawing:
            figure, ax = panels(1, 1, size)
            self.draw(ax[0, 0], **look)
            return figure

        return Figure("figure", caption, draw)


def lines_of(curves: Mapping[str, Curve]) -> dict[str, tuple[Vector, Vector]]:
    """The first theory of each curve, as figures of several curves take them."""
    return {label: (curve.fine, next(iter(curve.lines.values()))) for label, curve in curves.items()}


def points_of(curves: Mapping[str, Curve]) -> dict[str, tuple[Vector, Vector, Vector]]:
    """What was simulated of each curve, with its standard errors."""
    return {label: (curve.x, curve.simulated, curve.stderr) for label, curve in curves.items()}
