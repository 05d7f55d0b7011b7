"""A user's own regression table: how SGD would behave on it, by theory and by simulation."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sgdsim import _checks
from sgdsim.comparisons.comparison import OUT
from sgdsim.comparisons.judge import judge
from sgdsim.engine import sweep
from sgdsim.experiments.framework.findings import ERROR_RATE, Findings, Verdict
from sgdsim.experiments.framework.load_table import load, parameter_names
from sgdsim.experiments.framework.measure import hold, settling_steps, short_provenance
from sgdsim.experiments.framework.report import build_report
from sgdsim.experiments.framework.write import check_writing, write
from sgdsim.optimizers import SGD
from sgdsim.problems import DatasetRegression
from sgdsim.solver import gradient_covariance, predict, stability
from sgdsim.workflows.analysis_figures import Noise, Point, data, figures, summary, tables
from sgdsim.workflows.polynomial_section import polynomial_section

BATCH_SIZES = (4, 16, 32)
FRACTIONS = (0.35, 0.5)  # of the mean-square limit of the smallest batch size: stable at all of them
CHAINS = 128
BUDGET = 8e9  # nanoseconds of one core, by `_cost`
LEFT_OVER = 1e-3  # of the way to the stationary covariance: far below the standard errors of so few chains
SEED = 0
GROUPS = 64
SAMPLING = "with_replacement"


def analyze(
    table: object,
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

    Batches are drawn with replacement and chains start at the minimum, so that only the spread has to settle. The
    variance of the gradient over the batch size, as a polynomial in 1/b, is that of runs from the default start.

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
    if output is not None:
        check_writing()
    frame, target, name = load(table, target)
    sizes = _check_sizes(batch_sizes, len(frame))
    given = [_checks.positive("learning_rates", r) for r in learning_rates] if learning_rates is not None else None
    problem = DatasetRegression.from_table(frame, target=target, standardize_columns=standardize, intercept=intercept)
    names = parameter_names(frame, target, intercept)

    limits = {b: float(stability(problem, SGD(1.0), batch_size=b, sampling=SAMPLING).max_learning_rate) for b in sizes}
    chains = max(GROUPS, round(CHAINS * scale))
    points, unstable = _simulate(problem, sizes, limits, given, chains)
    noise = _gradient_noise(problem, sizes)
    share = ERROR_RATE / (len(points) + len(noise.trace) + 1)
    verdicts = _verdicts(points, noise, share)
    section = polynomial_section(problem, FRACTIONS[0] * min(limits.values()), SAMPLING, share)
    findings = Findings(
        verdicts=[*verdicts, *section.verdicts],
        data={**data(names, sizes, limits, points, noise), **section.data},
        figures=[*figures(sizes, _stability_line(problem, limits), limits, points, noise), *section.figures],
        summary=[
            *summary(problem, name, target, standardize, intercept, limits, noise, points, unstable),
            *section.summary,
        ],
        tables=[*tables(names, problem, limits, points, noise), *section.tables],
        provenance=short_provenance(
            points[0].result, table=name, target=target, batch_size=sizes, optimizer="SGD, see the learning rates above"
        )
        if points
        else {},
    )
    if output is not None:
        folder = _checks.path("output", output) / f"analyze-{name}"
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
    problem: DatasetRegression, sizes: Sequence[int], limits: dict[int, float], given: list[float] | None, chains: int
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


def _gradient_noise(problem: DatasetRegression, sizes: Sequence[int]) -> Noise:
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


def _verdicts(points: Sequence[Point], noise: Noise, share: float) -> list[Verdict]:
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


def _stability_line(problem: DatasetRegression, limits: dict[int, float]) -> dict[int, float]:
    """The limit at more batch sizes, for the figure, where it is cheap to get."""
    if problem.dimension > 30:
        return limits
    more = np.unique(np.geomspace(min(limits), max(limits), 12).round().astype(int)).tolist()
    found = {b: float(stability(problem, SGD(1.0), batch_size=b, sampling=SAMPLING).max_learning_rate) for b in more}
    return dict(sorted((found | limits).items()))
