"""Figure 1, left: the variance of the gradient over the steps of least squares on the diabetes table."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdsim.engine import gradient_variance
from sgdsim.experiments.framework.curve import lines_of, points_of
from sgdsim.experiments.framework.findings import Drawing, Figure, Findings, Scale
from sgdsim.experiments.framework.gradient_variances import by_size, judged, tables
from sgdsim.experiments.framework.measure import short_provenance
from sgdsim.experiments.framework.registry import experiment
from sgdsim.experiments.variance_of_gradients.shared import DIABETES, PAPER, halving, regression
from sgdsim.optimizers import SGD
from sgdsim.plots import matched, panels
from sgdsim.solver.variance import gradient_variance as exact_variance

SIZES = (8, 40, 240)
EXACT_STEPS = 2001
SHOWN = 8
SIZE = {"smoke": (2_000, 9), "laptop": (10_000, 201), "full": (10_000, 2_001)}  # runs, steps


@experiment("variance_fig1_left", "Variance of the gradient over steps (diabetes)", f"{PAPER}, figure 1 left")
def variance_fig1_left(scale: Scale, table: str = DIABETES, target: str | None = None) -> Findings:
    """Hold simulated variances of g_t and of the full gradient against the exact recursion."""
    runs, steps = SIZE[scale.name]
    problem, name, sizes = regression(table, target, SIZES)
    start = np.ones(problem.dimension)
    setting: dict[str, Any] = {"batch_size": sizes, "initial": start, "sampling": "without_replacement"}
    exact = exact_variance(problem, SGD(halving), steps=EXACT_STEPS, **setting)
    simulated = gradient_variance(problem, SGD(halving), steps=steps, chains=runs, seed=1, progress=False, **setting)
    marked = np.unique(np.geomspace(1, steps - 1, SHOWN).round().astype(int))
    t = np.arange(1, EXACT_STEPS)

    curves = {
        part: by_size(sizes, t, getattr(exact, part)[1:], marked, getattr(simulated, part)[marked],
                      getattr(simulated, f"{part}_stderr")[marked])
        for part in ("gradient", "full_gradient")
    }  # fmt: skip

    def draw() -> Drawing:
        figure, ax = panels(1, 2, (10.0, 4.2))
        titles = ("Variance of the minibatch gradient", "Variance of the full gradient")
        for axis, lines, title in zip(ax[0], curves.values(), titles, strict=True):
            matched(lines_of(lines), points_of(lines), ax=axis, xlabel="step t", ylabel="variance", title=title,
                    log="xy")
        return figure

    falls = bool((np.diff(exact.gradient, axis=1) <= 0).all() and (np.diff(exact.full_gradient, axis=1) <= 0).all())
    return Findings(
        verdicts=judged(f"{steps} steps", simulated, exact),
        data={**tables(simulated), "exact_step": (("exact_step",), np.arange(EXACT_STEPS)),
              **{f"{part}_exact": (("exact_step", "batch_size"), getattr(exact, part))
                 for part in ("gradient", "full_gradient", "loss")}},
        figures=[Figure("figure", f"Lines: exact. Points: {runs} simulated runs with 2 standard errors. Learning rate "
                        "1/(2(t+1)), subsets without replacement, start at all ones.", draw)],
        summary=[
            f"Exact at every one of {EXACT_STEPS - 1} steps: both variances "
            + ("fall" if falls else "do NOT always fall") + " with b.",
            f"At b = {sizes[0]} the exact variance is {exact.gradient[0, 0]:.4g} at the start and "
            f"{exact.gradient[1, 0]:.4g} after one step" + (": it does not always fall with t, because the first steps "
            "exceed 2/λ_max." if exact.gradient[1, 0] > exact.gradient[0, 0] else "."),
        ],
        provenance=short_provenance(simulated, table=name),
    )  # fmt: skip
