"""One style for every figure: colour-blind safe, and readable in grey because lines and markers vary too."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.typing import LineStyleType

Line = tuple[ArrayLike, ArrayLike]  # x, y
Points = tuple[ArrayLike, ArrayLike, ArrayLike]  # x, y, standard error; of a band x, low, high


class Look(NamedTuple):
    """How one theory is drawn."""

    color: str
    linestyle: LineStyleType
    label: str


# Okabe and Ito's palette; darkness differs as well as hue.
APPROXIMATIONS = {
    "exact": Look("#0072B2", "-", "exact"),
    "hessian": Look("#D55E00", "--", "discrete time, C = H"),
    "continuous": Look("#009E73", "-.", "continuous time, C = H"),
}
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINESTYLES: tuple[LineStyleType, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)))
INK, PAPER, GUIDE = "#1a1a1a", "white", "#8c8c8c"

SETTINGS = {
    "figure.dpi": 110,
    "savefig.dpi": 150,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "axes.edgecolor": "#4d4d4d",
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "font.size": 10,
}


def pyplot() -> ModuleType:
    """Import matplotlib's pyplot.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as missing:
        raise ImportError("drawing needs matplotlib; pip install 'sgdsim[plots]'") from missing
    return plt


def styled() -> AbstractContextManager[None]:
    """Return a context manager under which everything created has the style of this package."""
    plt = pyplot()
    plt.draw_if_interactive()  # loads the backend: loaded inside, it would be undone, and notebooks show nothing
    return plt.rc_context(SETTINGS)


def axes(ax: Axes | None = None, figsize: tuple[float, float] = (5.2, 3.8)) -> Axes:
    """Return `ax`, or the axes of a new styled figure."""
    if ax is not None:
        return ax
    with styled():
        return pyplot().figure(figsize=figsize, layout="constrained").add_subplot()


def set_log(ax: Axes, log: str) -> None:
    """Make the axes named in `log` logarithmic, with labels that do not run into each other."""
    for axis, name in ((ax.xaxis, "x"), (ax.yaxis, "y")):
        if name in log:
            getattr(ax, f"set_{name}scale")("log")
            label_log(axis)


def label_log(axis: Axis) -> None:
    """Label a logarithmic axis at 1, 2 and 5 where less than two decades are seen, at every digit in less than half."""
    pyplot()
    from matplotlib.ticker import FuncFormatter

    def minor(value: float, _: int | None) -> str:
        low, high = sorted(axis.get_view_interval())
        if low <= 0 or high >= 100 * low or (high >= 3 * low and f"{value:.0e}"[0] not in "25"):
            return ""
        return power_of_ten(value)

    axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
    axis.set_minor_formatter(FuncFormatter(minor))


def power_of_ten(value: float) -> str:
    """Return a number as short text: 0.05, 200, or with its power of ten."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:g}"
    digits, exponent = f"{value:.0e}".split("e")
    return f"$10^{{{int(exponent)}}}$" if digits == "1" else rf"${digits} \times 10^{{{int(exponent)}}}$"


def panels(rows: int, columns: int, figsize: tuple[float, float], **options: Any) -> tuple[Figure, np.ndarray]:
    """Return a new styled figure that pyplot does not keep, and its axes as an array."""
    pyplot()
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=figsize, layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **options)
