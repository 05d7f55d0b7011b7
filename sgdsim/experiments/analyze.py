"""A user's own regression table: how SGD would behave on it, by theory and by simulation."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sgdsim import _checks
from sgdsim.compare import OUT, judge
from sgdsim.engine import sweep
from sgdsim.experiments._table import load, parameter_names
from sgdsim.experiments.findings import ERROR_RATE, Figure, Findings, Table, Verdict
from sgdsim.experiments.measure import hold, settling_steps, short_provenance
from sgdsim.experiments.report import build_report
from sgdsim.experiments.write import write
from sgdsim.optimizers import SGD
from sgdsim.plots import curve, panels, parity_points
from sgdsim.problems import DatasetRegression
from sgdsim.results.result import Result
from sgdsim.solver import gradient_covariance, predict, stability
from sgdsim.solver.prediction import Prediction

BATCH_SIZES = (4, 16, 32)
FRACTIONS = (0.35, 0.5)  # of the mean-square limit of the smallest batch size: stable at all of them
CHAINS = 128
BUDGET = 8e9  # nanoseconds of one core, by `_cost`
LEFT_OVER = 1e-3  # of the way to the stationary covariance: far below the standard errors of so few chains
SEED = 0
GROUPS = 64
SAMPLING = "with_replacement"


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


def analyze(
    table: Any,
    target: str | None = None,
    *,
    batch_sizes: Sequence[int] | None = None,
    learning_rates: Sequence[float] | None = None,
    standardize: bool = True,
    intercept: bool = True,
    output: str | Path | None = None,
    scale: float = 1.0,
) -> Findings:
    """Say what SGD does on a regression table: stability, stationary covariance, excess loss, gradient noise.

    Batches are drawn with replacement and chains start at the minimum, so that only the spread has to settle.

    Args:
        table: a CSV path, a pandas DataFrame, an xarray object, or "diabetes" (scikit-learn's bundled table).
        target: the column to predict; for "diabetes" it is "target".
        batch_sizes: None means 4, 16 and 32, as far as the table has so many rows.
        learning_rates: None means 0.35 and 0.5 of the stability limit of the smallest batch size.
        standardize: give every column mean 0 and standard deviation 1.
        intercept: append a column of ones.
        output: a folder; writes output/analyze-NAME/ and rebuilds output/report.html.
        scale: multiplies the number of chains.

    Raises:
        ValueError: the table, a column, a batch size or a learning rate is not usable.
        ImportError: pandas or, for "diabetes", scikit-learn is missing.
    """
    start = time.perf_counter()
    frame, target, name = load(table, target)
    sizes = _check_sizes(batch_sizes, len(frame))
    given = [_checks.positive("learning_rates", r) for r in learning_rates] if learning_rates is not None else None
    problem = DatasetRegression.from_table(frame, target=target, standardize_columns=standardize, intercept=intercept)
    names = parameter_names(frame, target, intercept)

    limits = {b: float(stability(problem, SGD(1.0), batch_size=b, sampling=SAMPLING).mean_square) for b in sizes}
    chains = max(GROUPS, round(CHAINS * scale))
    points, unstable = _simulate(problem, sizes, limits, given, chains)
    noise = _gradient_noise(problem, sizes)
    verdicts = _verdicts(points, noise)
    findings = Findings(
        verdicts=verdicts,
        data=_data(names, sizes, limits, points, noise),
        figures=_figures(sizes, _stability_line(problem, limits), limits, points, noise),
        summary=_summary(problem, name, target, standardize, intercept, limits, noise, points, unstable),
        tables=_tables(names, problem, limits, points, noise),
        provenance=short_provenance(
            points[0].result, table=name, target=target, batch_size=sizes, optimizer="SGD, see the learning rates above"
        )
        if points
        else {},
    )
    if output is not None:
        folder = Path(output) / f"analyze-{name}"
        write(
            findings,
            folder,
            id=f"analyze-{name}",
            title=f"Your table: {name}",
            reference="exact finite-data theory, section 7 of the theory sheet",
            scale="-",
            seconds=time.perf_counter() - start,
        )
        build_report(output)
    return findings


def _check_sizes(batch_sizes: Sequence[int] | None, n: int) -> list[int]:
    if batch_sizes is None:
        return [b for b in BATCH_SIZES if b <= n] or [1]
    sizes = [_checks.integer("batch_sizes", b) for b in batch_sizes]
    if not sizes or len(set(sizes)) < len(sizes):
        raise _checks.error("batch_sizes", batch_sizes, "one or more distinct sizes", "try 4,16,64")
    return sorted(sizes)


def _simulate(
    problem: Any, sizes: Sequence[int], limits: dict[int, float], given: list[float] | None, chains: int
) -> tuple[list[Point], list[str]]:
    smallest = min(limits.values())
    rates = [f * smallest for f in FRACTIONS] if given is None else given
    unstable = [f"λ={r:g} at b={b}" for b in sizes for r in rates if r >= limits[b]]
    rates = [r for r in rates if r < max(limits.values())]
    theory = {
        (b, r): predict(problem, SGD(r), batch_size=b, sampling=SAMPLING) for b in sizes for r in rates if r < limits[b]
    }
    if not theory:
        return [], unstable
    step = len(rates) * chains * sum(_cost(b, problem.dimension) for b in sizes)
    affordable = max(500, int(BUDGET / step))
    burn_in = min(settling_steps(*theory.values(), left_over=LEFT_OVER), affordable * 3 // 4)
    steps = burn_in + max(300, min(burn_in // 3, affordable // 4))
    grid = sweep(
        problem,
        SGD(rates[0]),
        batch_size=sizes,
        learning_rate=rates,
        chains=chains,
        steps=steps,
        burn_in=burn_in,
        seed=SEED,
        sampling=SAMPLING,
        initial=problem.minimum,
        progress=False,
    )
    points = [
        Point(b, r, grid.sel(batch_size=b, learning_rate=r), law, settling_steps(law, left_over=LEFT_OVER) <= burn_in)
        for (b, r), law in theory.items()
    ]
    return points, unstable


def _cost(batch_size: int, dimension: int) -> float:
    """Nanoseconds of one core for one step of one chain, roughly."""
    return 350 + 3.5 * batch_size * (dimension + 1)


class Noise(NamedTuple):
    """Noise of the gradient at the start."""

    simple_scale: float
    trace: dict[int, float]
    simulated: dict[int, tuple[float, float]]


def _gradient_noise(problem: Any, sizes: Sequence[int]) -> Noise:
    """Exact trace of the covariance of a batch gradient at the start, and the same from drawn batches."""
    start = np.asarray(problem.default_start)
    mean = np.asarray(problem.gradient(start))
    trace = {b: float(np.trace(gradient_covariance(problem, start, b, SAMPLING))) for b in sizes}
    one = float(np.trace(gradient_covariance(problem, start, 1, SAMPLING)))
    x, y = np.asarray(problem.features), np.asarray(problem.targets)
    each = x * (x @ start - y)[:, None] - (x.T @ (x @ start - y))[None] / len(y)
    rng = np.random.default_rng(SEED)
    simulated = {}
    for b in sizes:
        draws = np.stack([each[rng.integers(len(y), size=(GROUPS, b))].mean(axis=1) for _ in range(GROUPS)])
        groups = (draws**2).sum(axis=-1).mean(axis=-1)
        simulated[b] = float(groups.mean()), float(groups.std(ddof=1) / math.sqrt(GROUPS))
    size = float(mean @ mean)
    return Noise(one / size if size > 0 else math.inf, trace, simulated)


def _verdicts(points: Sequence[Point], noise: Noise) -> list[Verdict]:
    share = ERROR_RATE / (len(points) + len(noise.trace))
    drawn = [
        Verdict(
            f"b={b}, at the start",
            judge("gradient variance", *noise.simulated[b], noise.trace[b], error_rate=share, groups=GROUPS),
        )
        for b in noise.trace
    ]
    settled = {p.name: p.settled for p in points}
    why = "the slowest directions need more steps than the time allows: drop nearly dependent columns"
    held = hold([(p.name, p.result, p.theory) for p in points], share * max(len(points), 1))
    return drawn + [
        v if settled[v.setting] else Verdict(v.setting, v.row._replace(verdict=OUT, note=why)) for v in held
    ]


def _summary(
    problem: Any,
    name: str,
    target: str,
    standardize: bool,
    intercept: bool,
    limits: dict[int, float],
    noise: Noise,
    points: Sequence[Point],
    unstable: Sequence[str],
) -> list[str]:
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


def _tables(
    names: Sequence[str], problem: Any, limits: dict[int, float], points: Sequence[Point], noise: Noise
) -> list[Table]:
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


def _data(
    names: Sequence[str], sizes: Sequence[int], limits: dict[int, float], points: Sequence[Point], noise: Noise
) -> dict[str, tuple[tuple[str, ...], Any]]:
    data: dict[str, tuple[tuple[str, ...], Any]] = {
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


def _stability_line(problem: Any, limits: dict[int, float]) -> dict[int, float]:
    """Return the limit at more batch sizes, for the figure, where it is cheap to get."""
    if problem.dimension > 30:
        return limits
    more = np.unique(np.geomspace(min(limits), max(limits), 12).round().astype(int)).tolist()
    found = {b: float(stability(problem, SGD(1.0), batch_size=b, sampling=SAMPLING).mean_square) for b in more}
    return dict(sorted((found | limits).items()))


def _figures(
    sizes: Sequence[int],
    line: dict[int, float],
    limits: dict[int, float],
    points: Sequence[Point],
    noise: Noise,
) -> list[Figure]:
    def draw():
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
        groups = {
            f"b = {b}": tuple(
                np.array(v)
                for v in zip(
                    *[
                        (p.theory.test_loss, p.result.test_loss, p.result.test_loss_stderr)
                        for p in points
                        if p.batch_size == b
                    ],
                    strict=True,
                )
            )
            for b in sizes
            if any(p.batch_size == b for p in points)
        }
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
