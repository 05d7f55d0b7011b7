"""How an analysis is shown: sentences, tables, arrays and figures; nothing is computed here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sgdsim.experiments.framework.findings import Figure, Table
from sgdsim.plots import curve, panels, parity_points
from sgdsim.plots.style import Points
from sgdsim.problems import DatasetRegression
from sgdsim.results.result import Result
from sgdsim.solver.prediction import Prediction

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure


Data = dict[str, tuple[tuple[str, ...], ArrayLike]]  # dimensions and values by name


class Point(NamedTuple):
    """One simulated setting."""

    batch_size: int
    learning_rate: float
    result: Result
    theory: Prediction
    settled: bool

    @property
    def name(self) -> str:
        """What the tables call it."""
        return f"b={self.batch_size}, λ={self.learning_rate:.4g}"


class Noise(NamedTuple):
    """Noise of the gradient at the start."""

    simple_scale: float
    trace: dict[int, float]
    simulated: dict[int, tuple[float, float]]


def summary(
    problem: DatasetRegression,
    name: str,
    target: str,
    standardize: bool,
    intercept: bool,
    limits: dict[int, float],
    noise: Noise,
    points: Sequence[Point],
    unstable: Sequence[str],
) -> list[str]:
    """What was done and found, in sentences."""
    columns = "Columns and target were standardised" if standardize else "Columns were used as they are"
    ones = "an intercept was added" if intercept else "no intercept was added"
    smallest = min(limits)
    text = [
        f"{name}: {problem.n_examples} rows, {problem.dimension} parameters, target {target!r}. {columns}; {ones}.",
        "Batches are drawn with replacement; chains start at the minimum, so that only the spread has to settle.",
        f"Simple noise scale tr(Σ_g)/|g|² at the start: {noise.simple_scale:.4g} examples.",
        f"SGD with batch size {smallest} is mean-square stable below a learning rate of {limits[smallest]:.4g}.",
    ]
    if unstable:
        text.append(f"Past the stability limit, not simulated: {', '.join(unstable)}.")
    if any(not p.settled for p in points):
        text.append(
            "Some points had no time to settle: nearly dependent columns make directions that move very slowly."
        )
    return text


def tables(
    names: Sequence[str], problem: DatasetRegression, limits: dict[int, float], points: Sequence[Point], noise: Noise
) -> list[Table]:
    """Stability, stationary law and parameters, as text cells."""
    tables = [
        Table(
            "Stability and gradient noise",
            ["batch size", "max. learning rate", "gradient variance at the start", "simulated", "± standard error"],
            [
                [
                    str(b),
                    f"{limits[b]:.5g}",
                    f"{noise.trace[b]:.5g}",
                    f"{noise.simulated[b][0]:.5g}",
                    f"{noise.simulated[b][1]:.2g}",
                ]
                for b in limits
            ],
        ),
        Table(
            "Stationary covariance and excess loss",
            [
                "setting",
                "tr Σ exact",
                "tr Σ simulated",
                "excess loss exact",
                "excess loss simulated",
                "± standard error",
            ],
            [
                [
                    p.name,
                    f"{np.trace(p.theory.covariance):.5g}",
                    f"{np.trace(p.result.covariance):.5g}",
                    f"{p.theory.test_loss:.5g}",
                    f"{p.result.test_loss:.5g}",
                    f"{p.result.test_loss_stderr:.2g}",
                ]
                for p in points
            ],
        ),
    ]
    if points:
        p = points[0]
        spread = np.sqrt(np.diag(p.theory.covariance)), np.sqrt(np.diag(p.result.covariance))
        tables.append(
            Table(
                f"Parameters at {p.name}",
                ["quantity", "minimum", "std. dev. exact", "std. dev. simulated"],
                [
                    [n, f"{m:.4g}", f"{e:.4g}", f"{s:.4g}"]
                    for n, m, e, s in zip(names, problem.minimum, *spread, strict=True)
                ],
            )
        )
    return tables


def data(
    names: Sequence[str], sizes: Sequence[int], limits: dict[int, float], points: Sequence[Point], noise: Noise
) -> Data:
    """The arrays behind the figure, with named dimensions."""
    data: Data = {
        "batch_size": (("batch_size",), np.array(sizes)),
        "parameter": (("parameter",), np.array(list(names))),
        "max_learning_rate": (("batch_size",), np.array([limits[b] for b in sizes])),
        "gradient_variance": (("batch_size",), np.array([noise.trace[b] for b in sizes])),
        "gradient_variance_simulated": (("batch_size",), np.array([noise.simulated[b][0] for b in sizes])),
        "gradient_variance_stderr": (("batch_size",), np.array([noise.simulated[b][1] for b in sizes])),
        "simple_noise_scale": ((), noise.simple_scale),
    }
    if points:
        square = ("point", "parameter", "parameter_2")
        data |= {
            "point_batch_size": (("point",), np.array([p.batch_size for p in points])),
            "point_learning_rate": (("point",), np.array([p.learning_rate for p in points])),
            "covariance": (square, np.stack([p.result.covariance for p in points])),
            "covariance_stderr": (square, np.stack([p.result.covariance_stderr for p in points])),
            "covariance_predicted": (square, np.stack([p.theory.covariance for p in points])),
            "excess_loss": (("point",), np.array([p.result.test_loss for p in points])),
            "excess_loss_stderr": (("point",), np.array([p.result.test_loss_stderr for p in points])),
            "excess_loss_predicted": (("point",), np.array([p.theory.test_loss for p in points])),
        }
    return data


def figures(
    sizes: Sequence[int],
    line: dict[int, float],
    limits: dict[int, float],
    points: Sequence[Point],
    noise: Noise,
) -> list[Figure]:
    """Stability limit, excess loss and gradient noise, side by side."""

    def draw() -> MatplotlibFigure:
        figure, ax = panels(1, 3, (13.0, 4.2))
        log = "xy" if len(sizes) > 1 else ""
        curve(
            {"largest stable rate": (list(line), list(line.values()))},
            (sizes, [limits[b] for b in sizes], [0.0] * len(sizes)),
            ax=ax[0, 0],
            xlabel="batch size",
            ylabel="learning rate",
            title="Where SGD is stable",
            log=log[:1],
            xticks=sizes,
            ylim=(0, 1.15 * max(line.values())),
        )
        ax[0, 0].legend().remove()
        groups: dict[str, Points] = {}
        for b in sizes:
            if held := [p for p in points if p.batch_size == b]:
                measured = [p.result.test_loss for p in held], [p.result.test_loss_stderr for p in held]
                groups[f"b = {b}"] = [p.theory.test_loss for p in held], *measured
        if groups:
            parity_points(groups, ax=ax[0, 1], log=True, title="Stationary excess loss")
        else:
            ax[0, 1].set_axis_off()
        simulated = np.array([noise.simulated[b] for b in sizes])
        curve(
            {"exact": (sizes, [noise.trace[b] for b in sizes])},
            (sizes, *simulated.T),
            ax=ax[0, 2],
            xlabel="batch size",
            ylabel="tr Cov(gradient)",
            title="Gradient noise at the start",
            log=log,
            xticks=sizes,
        )
        return figure

    return [
        Figure(
            "figure",
            "Left: the largest learning rate at which the spread stays finite. Middle: excess loss, "
            "theory against simulation. Right: variance of the gradient at the start over the batch size.",
            draw,
        )
    ]
