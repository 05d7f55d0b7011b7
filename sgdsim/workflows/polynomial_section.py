"""The variance of the gradient over the batch size on a user's table: exact, simulated and fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from sgdsim.engine import gradient_variance
from sgdsim.experiments.framework.findings import Figure, Table, Verdict
from sgdsim.experiments.framework.gradient_variances import judged, tables
from sgdsim.optimizers import SGD
from sgdsim.plots import panels, variance_polynomial
from sgdsim.problems import DatasetRegression
from sgdsim.solver.variance import gradient_variance as exact_variance
from sgdsim.solver.variance import gradient_variance_polynomial

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

STEPS = (1, 4, 12)
RUNS = 1_000
SIZES = (4, 16, 64)  # every further one costs two seconds of compilation
MOST_PARAMETERS = 60  # the recursion is over p(p+1)/2 numbers: beyond, it would take most of the time
SEED = 7


class Setting(TypedDict):
    """What the exact and the simulated variance are of."""

    batch_size: list[int]
    steps: int
    sampling: str


class Section(NamedTuple):
    """What an analysis gains."""

    verdicts: Sequence[Verdict]
    summary: Sequence[str]
    tables: Sequence[Table]
    figures: Sequence[Figure]
    data: Mapping[str, tuple[tuple[str, ...], ArrayLike]]


def polynomial_section(problem: DatasetRegression, rate: float, sampling: str, error_rate: float) -> Section:
    """Say whether and where the variance of the gradient falls with the batch size, from the default start."""
    if problem.dimension > MOST_PARAMETERS:
        text = (f"Variance of the gradient over the batch size: left out, {problem.dimension} parameters are more than "
                f"{MOST_PARAMETERS} (call solver.gradient_variance yourself).")
        return Section([], [text], [], [], {})
    sizes = [b for b in SIZES if b <= problem.n_examples] or [1]
    setting: Setting = {"batch_size": sizes, "steps": max(STEPS) + 1, "sampling": sampling}
    exact = exact_variance(problem, SGD(rate), **setting)
    simulated = gradient_variance(problem, SGD(rate), chains=RUNS, seed=SEED, progress=False, **setting)
    fits = {t: simulated.fit(t) for t in STEPS}
    curves: dict[int, Any] = {
        t: gradient_variance_polynomial(problem, SGD(rate), step=t, sampling=sampling) for t in STEPS
    }
    whole = np.geomspace(min(sizes), max(sizes), 40)
    falls = all(curve.is_decreasing() for curve in curves.values())
    rows = [
        [str(t), str(curves[t].degree), f"{curves[t].coefficients[1]:.4g}",
         "yes" if curves[t].is_decreasing() else "no", f"{fits[t].b0:.4g}",
         f"{np.abs(fits[t](whole) / curves[t](whole) - 1).max():.1%}"]
        for t in STEPS
    ]  # fmt: skip

    def draw() -> MatplotlibFigure:
        figure, ax = panels(1, 1, (6.4, 4.4))
        variance_polynomial({f"t = {t}": fits[t] for t in STEPS},
                            {f"t = {t}": (whole, curves[t](whole)) for t in STEPS},
                            ax=ax[0, 0], title=f"Variance of the gradient, λ = {rate:.4g}")  # fmt: skip
        return figure

    return Section(
        judged(f"λ={rate:.4g}, from the start", simulated, exact, error_rate=error_rate),
        [f"Variance of the gradient from the default start at λ={rate:.4g}: an exact polynomial in 1/b that "
         + ("falls with b from b = 1 on" if falls else "does NOT fall everywhere")
         + f", at every step shown (t = {', '.join(map(str, STEPS))})."],
        [Table("Variance of the gradient as a polynomial in 1/b",
               ["t", "degree", "coefficient of 1/b", "falls for all b", "fitted curve falls from b",
                "fit, largest error"], rows)],
        [Figure("variance", "Variance of the gradient over the batch size after t steps. Dashed: exact. Points: "
                f"{RUNS} simulated runs with 2 standard errors. Coloured: fitted polynomial, 95% band.", draw)],
        {f"variance_{name}": (tuple(f"variance_{d}" for d in dims), values)
         for name, (dims, values) in tables(simulated, exact).items()},
    )  # fmt: skip
