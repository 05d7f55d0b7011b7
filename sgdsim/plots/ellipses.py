"""Two-dimensional clouds of chains with covariance ellipses, measured and predicted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim.plots.style import APPROXIMATIONS, GUIDE, INK, axes, styled
from sgdsim.results import Result
from sgdsim.solver.prediction import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 2_000


def covariance_ellipses(
    result: Result,
    predictions: Mapping[str, Prediction] | Prediction,
    *,
    ax: Axes | None = None,
    components: tuple[int, int] = (0, 1),
    title: str = "",
) -> Axes:
    """Draw the last position of up to 2,000 chains with 1- and 2-sigma ellipses.

    Args:
        result: a `Result`.
        predictions: a `Prediction`, or several by the name of their approximation.
        ax: matplotlib axes; None makes a figure.
        components: which two parameters to draw.
        title: shown above the panel.

    Raises:
        ValueError: the problem has fewer than two parameters.
    """
    if np.size(result.mean) < 2:
        raise _checks.error(
            "result",
            f"{np.size(result.mean)} parameter",
            "of two parameters or more",
            "draw one parameter with sgdsim.plots.curve",
        )
    from matplotlib.lines import Line2D

    many = predictions if isinstance(predictions, Mapping) else {predictions.approximation: predictions}
    pick = np.asarray(components)
    ax = axes(ax, (4.6, 4.4))
    with styled():
        if result.final is not None:
            cloud = np.asarray(result.final)[:POINTS, pick]
            ax.scatter(cloud[:, 0], cloud[:, 1], s=3, color=GUIDE, alpha=0.6, linewidths=0, zorder=1, rasterized=True)
        _pair(ax, result.mean[pick], result.covariance[np.ix_(pick, pick)], color=INK, linestyle=":", linewidth=2.6)
        handles = [Line2D([], [], color=INK, linestyle=":", linewidth=2.6, label="simulation")]
        for name, theory in many.items():
            look = APPROXIMATIONS[name]
            options: dict[str, Any] = {"color": look.color, "linestyle": look.linestyle, "linewidth": 1.6}
            _pair(ax, theory.mean[pick], theory.covariance[np.ix_(pick, pick)], **options)
            handles.append(Line2D([], [], label=look.label, **options))
        reach = 3.2 * np.sqrt(np.diag(np.asarray(result.covariance))[pick].max())
        ax.set_xlim(result.mean[pick[0]] - reach, result.mean[pick[0]] + reach)
        ax.set_ylim(result.mean[pick[1]] - reach, result.mean[pick[1]] + reach)
        ax.set_aspect("equal")
        ax.set(xlabel=f"$w_{{{pick[0] + 1}}}$", ylabel=f"$w_{{{pick[1] + 1}}}$", title=title)
        # Below: an ellipse as wide as the panel leaves no corner free.
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, handlelength=2.8)
    return ax


def ellipse(mean: ArrayLike, covariance: ArrayLike, radius: float, points: int = 181) -> np.ndarray:
    """Return the curve (2, points) on which the Mahalanobis distance from `mean` is `radius`."""
    values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    angle = np.linspace(0, 2 * np.pi, points)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    return np.asarray(mean)[:, None] + radius * vectors @ (np.sqrt(np.clip(values, 0, None))[:, None] * circle)


def _pair(ax: Axes, mean: np.ndarray, covariance: np.ndarray, **options: Any) -> None:
    for radius in (1, 2):
        ax.plot(*ellipse(mean, covariance, radius), zorder=2 + radius / 10, **options)
