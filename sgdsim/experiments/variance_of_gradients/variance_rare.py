"""Rare events: the exact variance of a network's gradient is not what any simulation sees."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from sgdsim.comparisons.gradient_variance import compare_gradient_variance
from sgdsim.engine import gradient_variance
from sgdsim.experiments.framework.findings import ERROR_RATE, Drawing, Figure, Findings, Scale, Table, Verdict
from sgdsim.experiments.framework.gradient_variances import tables
from sgdsim.experiments.framework.measure import short_provenance
from sgdsim.experiments.framework.registry import experiment
from sgdsim.experiments.variance_of_gradients.shared import PAPER
from sgdsim.optimizers import SGD
from sgdsim.plots import matched, panels
from sgdsim.problems import TwoLayerLinear
from sgdsim.solver.variance import gradient_variance_polynomial

RATE, SIZES, STEPS = 0.1, (2, 4, 10, 100), (1, 2, 3)
RUNS = {"smoke": 20_000, "laptop": 200_000, "full": 2_000_000}


@experiment("variance_rare", "Rare events carry the exact variance of a two-layer network",
            f"{PAPER}, section 4 (figure 2 at small b)")  # fmt: skip
def variance_rare(scale: Scale) -> Findings:
    """Hold one unit in every layer against exact fractions; `compare` itself says where that is meaningless."""
    problem, start = TwoLayerLinear([[1.0]], [[2.0]]), ([[1.0]], [[0.5]])
    simulated = gradient_variance(problem, SGD(RATE), batch_size=list(SIZES), steps=max(STEPS) + 1,
                                  chains=RUNS[scale.name], seed=3, initial=problem.flatten(*start), progress=False)
    exact: dict[int, Any] = {t: gradient_variance_polynomial(problem, SGD(RATE), step=t, initial=start) for t in STEPS}
    verdicts: list[Verdict] = []
    said: list[str] = []
    for t in STEPS:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            report = compare_gradient_variance(simulated, exact[t], step=t, error_rate=ERROR_RATE / len(STEPS))
        verdicts += [Verdict(f"t={t}", row) for row in report.rows]
        said += [str(one.message) for one in caught]
    layer = simulated.by_layer[0]
    rows = [
        [str(t), str(b), f"{exact[t].inner(b):.6g}", f"{layer.gradient[t, j]:.5g} ± {layer.gradient_stderr[t, j]:.1g}",
         "yes" if simulated.typical_run[t, j] else "no"]
        for t in STEPS for j, b in enumerate(SIZES)
    ]  # fmt: skip
    fine = np.geomspace(2, 100, 600)

    def draw() -> Drawing:
        figure, ax = panels(1, len(STEPS), (11.0, 4.0), sharey=True)
        b = np.array(SIZES)
        for axis, t in zip(ax[0], STEPS, strict=True):
            matched(
                {"exact": (fine, fine * exact[t].inner(fine))},
                {"exact": (b, b * layer.gradient[t], b * layer.gradient_stderr[t])},
                doubtful={"exact": simulated.typical_run[t]}, doubtful_label="simulation misses rare runs",
                ax=axis, xlabel="batch size b", ylabel="b · Var g of layer 1" if t == STEPS[0] else "",
                title=f"t = {t}: degree {exact[t].inner.degree} in 1/b", log="x",
            )  # fmt: skip
            axis.set_ylim(1.15, 1.65)
        return figure

    return Findings(
        verdicts=verdicts,
        data={**tables(simulated), "exact_step": (("exact_step",), np.array(STEPS)),
              "inner_exact": (("exact_step", "batch_size"), np.stack([exact[t].inner(np.array(SIZES)) for t in STEPS])),
              "inner": (("step", "batch_size"), layer.gradient)},
        figures=[Figure("figure", "One unit in every layer. Lines: exact. Points: simulation with 2 standard errors; "
                        "grey: entries that `compare` refuses to judge. The axis is cut: at t = 3, b = 2 the exact "
                        f"variance is {exact[3].inner(2):.3g}.", draw)],
        summary=[*said, "The degrees in 1/b at t = 1, 2, 3 are "
                 f"{', '.join(str(exact[t].inner.degree) for t in STEPS)}, more than theorem 4's 2 · 3^t from t = 2."],
        tables=[Table("Layer 1", ["t", "b", "exact", "simulated", "rare runs missed"], rows)],
        provenance=short_provenance(simulated, learning_rate=RATE),
    )  # fmt: skip
