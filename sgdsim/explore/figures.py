"""The two figures of the page: they draw arrays and compute nothing but the range of their axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    GlyphRenderer,
    Legend,
    LegendItem,
    LogTickFormatter,
    Range1d,
    Span,
    TeeHead,
    Whisker,
)
from bokeh.plotting import figure

from sgdsim.explore.model import Curves, ShownLaw, Simulated, Theory
from sgdsim.plots.style import APPROXIMATIONS, GUIDE, INK

SIZE = 350
QUANTITIES = {"test_loss": "test loss", "trace": "trace of Σ"}
_DASHES = {"exact": "solid", "hessian": "dashed", "continuous": "dashdot"}
# Not empty lists: the legend shows no sign for what has no points.
_EMPTY: dict[str, Sequence[float]] = {"x": [math.nan], "y": [math.nan]}
_NO_POINT: dict[str, Sequence[float]] = _EMPTY | {"low": [math.nan], "high": [math.nan]}


class EllipsePanel:
    """The chains' last positions with 1- and 2-sigma ellipses, measured and predicted."""

    def __init__(self) -> None:
        self.figure = _figure("1σ and 2σ ellipses of Σ", "w₁", "w₂")
        self._reach = 1.0
        self._cloud, self._measured = _source(), _source()
        self._laws = {name: _source() for name in APPROXIMATIONS}
        dots = self.figure.scatter("x", "y", source=self._cloud, size=3, color=GUIDE, alpha=0.45, line_color=None)
        items = [("chains", dots)]
        for name, source in self._laws.items():
            look = APPROXIMATIONS[name]
            line = self.figure.line("x", "y", source=source, color=look.color, line_dash=_DASHES[name], line_width=2)
            items.append((look.label, line))
        items.append(("simulation", self.figure.line("x", "y", source=self._measured, color=INK, line_dash="dotted",
                                                     line_width=3)))
        _legend(self.figure, items)

    def show_theory(self, theory: Theory) -> None:
        """Move the predicted ellipses, and the axes with them."""
        for name, source in self._laws.items():
            law: ShownLaw | None = theory.laws.get(name)
            source.data = _EMPTY if law is None else _xy(law.ellipses)
        if theory.laws:
            self._fit(max(math.sqrt(law.covariance.diagonal().max()) for law in theory.laws.values()))

    def show_simulation(self, found: Simulated, theory: Theory) -> None:
        """Move the cloud; past the limit it decides on the axes too, because no law does."""
        # Where the second moment does not exist the ellipse of the sample would mean nothing.
        self._measured.data = _xy(found.ellipses) if theory.laws else _EMPTY
        self._cloud.data = _xy(found.cloud.T)
        if not theory.laws and len(found.cloud):
            self._fit(float(np.quantile(np.abs(found.cloud), 0.9)))

    def clear_simulation(self) -> None:
        """Take away what belongs to other inputs."""
        self._measured.data = self._cloud.data = _EMPTY

    def _fit(self, deviation: float) -> None:
        """Axes in steps of a third of a decade: they stay where they are while the ellipses grow and shrink."""
        self._reach = 10 ** (math.ceil(3 * math.log10(max(2.4 * deviation, 1e-12))) / 3)
        for axis in (self.figure.x_range, self.figure.y_range):
            axis.update(start=-self._reach, end=self._reach)


class RatePanel:
    """A quantity over the learning rate: three theories, the stability limit, and the simulated point."""

    def __init__(self) -> None:
        self.figure = _figure("", "learning rate", "", log=True)
        self._laws = {name: _source() for name in APPROXIMATIONS}
        items = []
        for name, source in self._laws.items():
            look = APPROXIMATIONS[name]
            line = self.figure.line("x", "y", source=source, color=look.color, line_dash=_DASHES[name], line_width=2)
            items.append((look.label, line))
        self._limit = Span(dimension="height", line_color=INK, line_dash="dotted", line_width=2)
        self._here = Span(dimension="height", line_color=GUIDE, line_width=1)
        self.figure.renderers.extend([self._here, self._limit])
        self._point = ColumnDataSource(dict(_NO_POINT))
        self._doubtful = _source()
        head = {"line_color": INK, "line_width": 1.5, "size": 8}
        self.figure.add_layout(Whisker(base="x", lower="low", upper="high", source=self._point, line_color=INK,
                                       line_width=1.5, upper_head=TeeHead(**head), lower_head=TeeHead(**head)))
        dot = self.figure.scatter("x", "y", source=self._point, size=8, fill_color="white", line_color=INK,
                                  line_width=1.8)
        cross = self.figure.scatter("x", "y", source=self._doubtful, size=10, marker="x", line_color=GUIDE,
                                    line_width=2.5)
        mark = self.figure.line([math.nan], [math.nan], color=INK, line_dash="dotted", line_width=2)
        items += [("simulation ± 2 s.e.", dot), ("simulation, no error bar", cross), ("stability limit", mark)]
        _legend(self.figure, items)

    def show_theory(self, theory: Theory, curves: Curves, quantity: str) -> None:
        """Move the curves, the limit and the line at the present learning rate."""
        for name, source in self._laws.items():
            source.data = {"x": curves.learning_rates, "y": curves.values[name][quantity]}
        self._limit.location, self._here.location = curves.limit, theory.learning_rate
        self.figure.title.text = f"{QUANTITIES[quantity]} over the learning rate"
        self.figure.yaxis.axis_label = QUANTITIES[quantity]
        edge = min(theory.learning_rate, curves.limit / 100), max(theory.learning_rate, 2 * curves.limit)
        self.figure.x_range.update(start=edge[0] / 1.1, end=edge[1] * 1.1)
        every = np.concatenate([column[quantity] for column in curves.values.values()])
        self.figure.y_range.update(start=every.min() / 2, end=every.max() * 1.5)

    def show_simulation(self, found: Simulated, theory: Theory, quantity: str) -> None:
        """Move the point; without an error bar where the second moment does not exist."""
        x, y, error = theory.learning_rate, found.values[quantity], found.errors[quantity]
        known = math.isfinite(y) and math.isfinite(error)
        low = max(y - 2 * error, y / 1e3) if known else y  # a logarithmic axis has no zero
        self._point.data = {"x": [x], "y": [y], "low": [low], "high": [y + 2 * error]} if known else _NO_POINT
        top = self.figure.y_range.end / 1.3
        self._doubtful.data = {"x": [x], "y": [min(y, top)]} if not known and math.isfinite(y) else _EMPTY

    def clear_simulation(self) -> None:
        """Take away what belongs to other inputs."""
        self._point.data = _NO_POINT
        self._doubtful.data = _EMPTY


def _figure(title: str, xlabel: str, ylabel: str, log: bool = False) -> figure:
    axis = "log" if log else "linear"
    made = figure(
        title=title, x_axis_label=xlabel, y_axis_label=ylabel, frame_width=SIZE, frame_height=SIZE,
        x_axis_type=axis, y_axis_type=axis, x_range=Range1d(0.01, 1), y_range=Range1d(0.01, 1), tools="",
        toolbar_location=None,
    )
    made.title.text_color = made.axis.axis_label_text_color = made.axis.major_label_text_color = INK
    made.title.text_font_size, made.axis.axis_label_text_font_size = "15px", "13px"
    made.axis.major_label_text_font_size = "12px"
    made.axis.axis_label_text_font_style = "normal"
    made.grid.grid_line_color = "#e6e6e6"
    made.outline_line_color = "#4d4d4d"
    made.min_border_left = 70
    if log:
        made.xaxis.formatter = made.yaxis.formatter = LogTickFormatter(min_exponent=5)
    return made


def _legend(made: figure, items: list[tuple[str, GlyphRenderer]]) -> None:
    legend = Legend(
        items=[LegendItem(label=label, renderers=[glyph]) for label, glyph in items], ncols=2, spacing=2, margin=0,
        padding=2, border_line_color=None, glyph_width=34, label_width=150, label_text_font_size="12px",
        label_text_color=INK, click_policy="hide",
    )
    made.add_layout(legend, "below")


def _source() -> ColumnDataSource:
    return ColumnDataSource(dict(_EMPTY))


def _xy(points: np.ndarray) -> dict[str, np.ndarray]:
    return {"x": points[0], "y": points[1]}
