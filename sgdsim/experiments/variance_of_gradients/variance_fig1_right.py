"""Figure 1, right: the variance of the gradient over the batch size at a few steps: exact, simulated and fitted."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdsim.engine import gradient_variance
from sgdsim.experiments.framework.findings import Drawing, Figure, Findings, Scale, Table
from sgdsim.experiments.framework.gradient_variances import judged, tables
from sgdsim.experiments.framework.measure import short_provenance
from sgdsim.experiments.framework.registry import experiment
from sgdsim.experiments.variance_of_gradients.shared import DIABETES, PAPER, halving, regression
from sgdsim.optimizers import SGD
from sgdsim.plots import panels, variance_polynomial
from sgdsim.problems import DatasetRegression
from sgdsim.solver.variance import GradientVariance, gradient_variance_polynomial
from sgdsim.solver.variance import gradient_variance as exact_variance

STEPS = (10, 20, 30, 40)
# The paper's 20 sizes are powers of 2 and multiples of 40 up to 480; the table has 442 rows.
ALL = sorted({2**k for k in range(1, 9)} | set(range(40, 441, 40)))
SIZE = {
    "smoke": (1_000, [8, 24, 80, 240]),
    "laptop": (20_000, ALL),
    "full": (200_000, ALL),
}  # runs, batch sizes


@experiment("variance_fig1_right", "Variance of the gradient over the batch size (diabetes)",
            f"{PAPER}, figure 1 right")  # fmt: skip
def variance_fig1_right(scale: Scale, table: str = DIABETES, target: str | None = None) -> Findings:
    """Fit the polynomial to simulated variances, and hold both against the exact one."""
    runs, wanted = SIZE[scale.name]
    problem, name, sizes = regression(table, target, wanted)
    how: dict[str, Any] = {"initial": np.ones(problem.dimension), "sampling": "without_replacement"}
    setting: dict[str, Any] = {"batch_size": sizes, "steps": max(STEPS) + 1, **how}
    exact: GradientVariance = exact_variance(problem, SGD(halving), **setting)
    simulated = gradient_variance(problem, SGD(halving), chains=runs, seed=2, progress=False, **setting)
    fits = {t: simulated.fit(t) for t in STEPS}
    whole = np.unique(np.geomspace(min(sizes), max(sizes), 60).round())
    curves: dict[int, Any] = {t: gradient_variance_polynomial(problem, SGD(halving), step=t, **how) for t in STEPS}
    fine = np.geomspace(min(sizes), max(sizes), 300)
    falling = all(curve.is_decreasing() for curve in curves.values())
    inside: dict[int, float] = {}
    miss: dict[int, float] = {}
    for t in STEPS:
        truth = curves[t](whole)
        low, high = fits[t].band(whole)
        inside[t] = float(np.mean((low <= truth) & (truth <= high)))
        miss[t] = float(np.abs(fits[t](whole) / truth - 1).max())
    six = fewer_coefficients(problem, how)

    def draw() -> Drawing:
        figure, ax = panels(1, 1, (6.6, 4.6))
        variance_polynomial({f"t = {t}": fits[t] for t in STEPS},
                            {f"t = {t}": (fine, curves[t](fine)) for t in STEPS},
                            ax=ax[0, 0], title=f"{name}, learning rate 1/(2(t+1))")  # fmt: skip
        return figure

    return Findings(
        verdicts=judged("all steps", simulated, exact),
        data={**tables(simulated, exact), "curve_step": (("curve_step",), np.array(STEPS)),
              "curve_batch_size": (("curve_batch_size",), whole),
              "curve_exact": (("curve_step", "curve_batch_size"), np.stack([curves[t](whole) for t in STEPS])),
              "curve_fitted": (("curve_step", "curve_batch_size"), np.stack([fits[t](whole) for t in STEPS]))},
        figures=[Figure("figure", "Dashed: exact polynomial. Points: simulation with 2 standard errors. Coloured: fit "
                        "with coefficients >= 0, which theory guarantees, and its 95% band.", draw)],
        summary=[
            "The exact polynomials " + ("decrease" if falling else "do NOT decrease")
            + f" over all b from 1 to {problem.n_examples}: every coefficient in c_b is non-negative.",
            f"The paper fits degree 6; the exact degree is t + 1. Six coefficients lose {six:.2%} at b = 2, t = 10.",
        ],
        tables=[Table("The fit against the exact curve", ["t", "exact degree", "share of b inside the 95% band",
                                                          "largest relative error", "χ² / d.o.f."],
                      [[str(t), str(curves[t].degree), f"{inside[t]:.0%}", f"{miss[t]:.1%}",
                        f"{fits[t].chi_square:.3g} / {fits[t].degrees_of_freedom}"] for t in STEPS])],
        provenance=short_provenance(simulated, table=name),
    )  # fmt: skip


def fewer_coefficients(problem: DatasetRegression, how: dict[str, Any]) -> float:
    """Return the share of the variance at b = 2, t = 10 that a polynomial of degree 6 leaves out."""
    optimizer = SGD(halving)
    curves: list[Any] = [gradient_variance_polynomial(problem, optimizer, step=10, order=k, **how) for k in (None, 6)]
    return float(1 - curves[1](2) / curves[0](2))
