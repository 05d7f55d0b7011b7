"""What the comparison of a sweep hands back: verdicts by point, where disagreement begins, maps."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sgdsim._checks import choice, need, positive
from sgdsim.comparisons.comparison import (
    AGREE,
    DISAGREE,
    HEADER,
    OUT,
    Comparison,
    Row,
    count_verdicts,
    format_row,
    row_to_dict,
)
from sgdsim.comparisons.entries import Held
from sgdsim.comparisons.tables import Cells, Table

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 8


class Point(NamedTuple):
    """One point of the grid.

    Attributes:
        at: its values along the axes.
        comparison: the verdicts; None where there is no theory.
        held: what was compared, by quantity.
        out: why there is no theory, or "".
    """

    at: dict[str, float]
    comparison: Comparison | None
    held: dict[str, Held]
    out: str

    @property
    def rows(self) -> list[Row]:
        """The rows of the comparison, none where there is no theory."""
        return [] if self.comparison is None else self.comparison.rows

    @property
    def verdict(self) -> str:
        """"disagree" if any row does, else what most of them say, or "out of regime"."""
        found = [row.verdict for row in self.rows]
        return DISAGREE if DISAGREE in found else Counter(found).most_common(1)[0][0] if found else OUT


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SweepComparison(Table):
    """Verdicts at every point of a sweep.

    Attributes:
        axes: name of each axis and its values, in order.
        points: of the grid, the last axis running fastest.
        error_rate: probability that a correct theory gets any "disagree".
    """

    axes: dict[str, list[float]]
    points: list[Point]
    error_rate: float
    _limits: Callable[[], dict[float, float]]
    _strong = (DISAGREE,)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(len(values) for values in self.axes.values())

    @property
    def rows(self) -> list[Row]:
        """The rows of all points."""
        return [row for point in self.points for row in point.rows]

    @property
    def agrees(self) -> bool:
        """Whether every row of every point says "agree"."""
        return all(point.rows and all(row.verdict == AGREE for row in point.rows) for point in self.points)

    @property
    def disagrees(self) -> bool:
        """Whether any row of any point says "disagree"."""
        return any(row.verdict == DISAGREE for row in self.rows)

    @property
    def verdicts(self) -> np.ndarray:
        """The verdict of each point, shape (*self.shape,): "disagree" if any row of it does."""
        return np.array([point.verdict for point in self.points]).reshape(self.shape)

    @functools.cached_property
    def limits(self) -> dict[float, float]:
        """The largest stable learning rate by batch size, where theory knows it."""
        return self._limits()

    def map(self, kind: str = "z", quantity: str | None = None) -> np.ndarray:
        """The entry with the largest |z| at every point, shape (*self.shape,); NaN where there is no theory.

        Args:
            kind: "z", or "relative_error".
            quantity: one of those compared; None is the worst of all.
        """
        choice("kind", kind, ("z", "relative_error"))
        return np.array([self._worst(point, kind, quantity) for point in self.points]).reshape(self.shape)

    def _worst(self, point: Point, kind: str, quantity: str | None) -> float:
        rows = dict(zip(point.held, point.rows, strict=True))
        if quantity is not None and rows:
            rows = {quantity: rows[choice("quantity", quantity, rows)]}
        worst = max(rows.values(), key=lambda row: abs(np.nan_to_num(row.z)), default=None)
        return math.nan if worst is None else getattr(worst, kind)

    def good_to(self, tolerance: float) -> np.ndarray:
        """Where the theory is shown to be that good, shape (*self.shape,): 1 yes, 0 no, NaN where the run cannot tell.

        Good means that every entry is off by less than the tolerance, relative to its scale, whatever the errors of the
        simulation are; not good, that some entry is certainly off by more.

        Args:
            tolerance: 0.05 is 5 %.
        """
        tolerance = positive("tolerance", tolerance)
        found = [_good(point, tolerance) for point in self.points]
        return np.array(found).reshape(self.shape)

    def along(self, axis: str) -> str:
        """Where disagreement begins along an axis, in words."""
        values = sorted(self.axes[choice("axis", axis, self.axes)])
        found = {value: [p for p in self.points if p.at[axis] == value] for value in values}
        bad = [value for value in values if any(p.verdict == DISAGREE for p in found[value])]
        good = [value for value in values if value not in bad and any(p.verdict == AGREE for p in found[value])]
        if not bad:
            everywhere = all(p.verdict == AGREE for p in self.points)
            return f"{'agrees' if everywhere else 'no disagreement'} at any {axis} from {values[0]:g} to {values[-1]:g}"
        first, last = bad[0], bad[-1]
        below, above = [v for v in good if v < first], [v for v in good if v > last]
        if below and not above:
            return f"agrees up to {axis} {below[-1]:g}, off by {self._off(found[first], axis)} at {first:g}"
        if above and not below:
            return f"agrees from {axis} {above[0]:g} on, off by {self._off(found[last], axis)} at {last:g}"
        worst = max(bad, key=lambda value: _size(_worst_row(found[value])[1]))
        where = f"every {axis}" if bad == values else f"{axis} {', '.join(f'{value:g}' for value in bad)}"
        return f"disagrees at {where}, off by {self._off(found[worst], axis)} at {worst:g}"

    def _off(self, points: list[Point], axis: str) -> str:
        """By how much the worst of some points is off, and which it is."""
        at, row = _worst_row(points)
        difference = row.simulated - row.predicted
        error = abs(row.relative_error / difference) * row.stderr if difference else 0.0
        others = [f"{name} {at[name]:g}" for name, values in self.axes.items() if name != axis and len(values) > 1]
        where = f" ({', '.join([row.quantity, *others])})"
        return f"{_digits(100 * abs(row.relative_error), 2)} % ± {_digits(100 * error, 1)}{where}"

    def to_dataframe(self) -> pd.DataFrame:
        """Return the rows of all points as a `pandas.DataFrame` (needs `pip install 'sgdsim[data]'`)."""
        rows = [{**point.at, **row._asdict()} for point in self.points for row in point.rows]
        return need("pandas", "data").DataFrame(rows, columns=[*self.axes, *Row._fields])

    def to_dict(self) -> dict[str, object]:
        """Plain Python numbers and strings, ready for JSON (numbers that are not finite become None)."""
        points = [{"at": p.at, "rows": [row_to_dict(row) for row in p.rows], "out": p.out} for p in self.points]
        return {"axes": self.axes, "points": points, "agrees": self.agrees, "error_rate": self.error_rate}

    def _cells(self) -> tuple[Cells, list[Cells]]:
        """The worst rows: those that disagree, then by |z|."""
        rows = [(point.at, row) for point in self.points for row in point.rows]
        rows.sort(key=lambda pair: (pair[1].verdict != DISAGREE, -_size(pair[1])))
        body: list[Cells] = [[*(f"{at[name]:g}" for name in self.axes), *format_row(row)] for at, row in rows[:_SHOWN]]
        return [*self.axes, *HEADER], body

    def _title(self) -> str:
        missing = sum(point.comparison is None for point in self.points)
        said = f"; no theory at {missing}" if missing else ""
        return f"SweepComparison({len(self.points)} points: {count_verdicts(self.rows)}{said})"

    def _notes(self) -> list[str]:
        left = len(self.rows) - _SHOWN
        notes = [self.along(axis) for axis, values in self.axes.items() if len(values) > 1 and axis != "point"]
        said = Counter(row.note for row in self.rows if row.note) + Counter(p.out for p in self.points if p.out)
        notes += [f"{note} ({number} rows)" if number > 1 else note for note, number in sorted(said.items())]
        return notes + ([f"the {_SHOWN} worst of {len(self.rows)} rows are shown"] if left > 0 else [])


def _digits(number: float, digits: int) -> str:
    return np.format_float_positional(number, precision=digits, fractional=False, trim="-")


def _size(row: Row) -> float:
    return math.inf if math.isnan(row.z) else abs(row.z)


def _worst_row(points: list[Point]) -> tuple[Mapping[str, float], Row]:
    rows = [(point.at, row) for point in points for row in point.rows if row.verdict == DISAGREE]
    return max(rows, key=lambda pair: _size(pair[1]))


def _good(point: Point, tolerance: float) -> float:
    if point.comparison is None or point.comparison.regime or not point.held:
        return math.nan
    good = True
    for held, row in zip(point.held.values(), point.rows, strict=True):
        known = held.scale > 0
        off = np.abs(held.simulated - held.predicted)[known] / held.scale[known]
        error = held.resolution(row.threshold)[known] / held.scale[known]
        if np.any(off - error > tolerance):
            return 0.0
        good = good and bool(np.all(off + error <= tolerance))
    return 1.0 if good else math.nan
