"""The linear scaling rule over learning rate and batch size, against the exact law and simulation."""

from __future__ import annotations

from functools import partial

import numpy as np

from sgdsim.experiments.framework.findings import Drawing, Figure, Findings, Scale
from sgdsim.experiments.framework.measure import hold, short_provenance, sweep_settled
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import SGD
from sgdsim.plots import heatmap, panels
from sgdsim.problems import LinearRegression
from sgdsim.solver import predict
from sgdsim.solver.limits import linear_scaling_rule

FACTOR, TOLERANCE = 2, 0.1
COVARIANCE = (1.0, 0.5)
POINTS = ((0.2, 4), (0.4, 4), (0.2, 64), (0.4, 64))  # (lambda, S), each simulated with its (2 lambda, 2 S)


@experiment("scaling_law", "Where scaling learning rate and batch size together keeps the fluctuation",
            "Strength of Minibatch Noise in SGD, section 6 (linear scaling rule); stationary.md section 9")  # fmt: skip
def scaling_law(scale: Scale) -> Findings:
    """Map Tr Sigma(2 lambda, 2 S) / Tr Sigma(lambda, S) and simulate some of its points."""
    problem = LinearRegression(covariance=list(COVARIANCE), label_noise=0.5)
    sizes = np.unique(np.geomspace(1, 256, 12 if scale.points <= 5 else 33).round().astype(int))
    rates = np.geomspace(0.01, 1.9, 28 if scale.points <= 5 else 64)
    chart = linear_scaling_rule(problem, SGD(0.1), batch_size=sizes.tolist(), learning_rate=rates.tolist(),
                                factor=FACTOR)
    settings = sorted({point for r, b in POINTS for point in ((r, b), (FACTOR * r, FACTOR * b))})
    theory = {(r, b): predict(problem, SGD(r), batch_size=b) for r, b in settings}
    all_rates, all_sizes = sorted({r for r, _ in settings}), sorted({b for _, b in settings})
    grid = sweep_settled(problem, SGD(0.1), theory.values(), batch_size=all_sizes, learning_rate=all_rates,
                         chains=max(2048, scale.chains // 4), steps=scale.steps // 2, seed=7)
    measured = {(r, b): grid.sel(batch_size=b, learning_rate=r) for r, b in settings}
    pairs = [(measured[r, b], measured[FACTOR * r, FACTOR * b]) for r, b in POINTS]
    simulated = np.array([np.trace(large.covariance) / np.trace(small.covariance) for small, large in pairs])
    exact = np.array([np.trace(theory[FACTOR * r, FACTOR * b].covariance) / np.trace(theory[r, b].covariance)
                      for r, b in POINTS])
    change = np.log10(chart.ratio)
    holds = chart.holds(TOLERANCE)
    reach = [float(rates[row].max()) if row.any() else np.nan for row in holds]

    def draw() -> Drawing:
        figure, ax = panels(1, 2, (10.5, 4.3))
        boundaries = {
            "(λ, S) unstable": (chart.max_learning_rate, chart.batch_sizes),
            f"({FACTOR}λ, {FACTOR}S) unstable": (chart.max_learning_rate_scaled, chart.batch_sizes),
        }
        place = partial(heatmap, rates, sizes, xlabel="learning rate λ", ylabel="batch size S", log="xy",
                        ylim=(0.85, 300))
        kept = {float(np.log10(1 + TOLERANCE)): f"+{TOLERANCE:.0%}"}
        place(change, ax=ax[0, 0], title=f"Scaling both by {FACTOR}: exact", limits=(0, 0.6), contours=kept,
              label=f"log10 Tr Σ({FACTOR}λ, {FACTOR}S) / Tr Σ(λ, S)", boundaries=boundaries,
              dots=(*np.array(POINTS).T, np.log10(simulated)))
        place(100 * chart.rule_error, ax=ax[0, 1], title="Rule of thumb λσ²/(2S) per direction",
              label="error of the rule, %", limits=(-100, 0), contours={-50: "-50%", -10: "-10%"},
              contour_color="black", boundaries=dict(list(boundaries.items())[:1]))
        return figure

    return Findings(
        verdicts=hold([(f"λ={r:g}, S={b}", measured[r, b], theory[r, b]) for r, b in settings]),
        data={
            "batch_size": (("batch_size",), chart.batch_sizes),
            "learning_rate": (("learning_rate",), chart.learning_rates),
            "ratio": (("batch_size", "learning_rate"), chart.ratio),
            "rule_error": (("batch_size", "learning_rate"), chart.rule_error),
            "max_learning_rate": (("batch_size",), chart.max_learning_rate),
            "max_learning_rate_scaled": (("batch_size",), chart.max_learning_rate_scaled),
            "point": (("point", "hyperparameter"), np.array(POINTS)),
            "simulated_ratio": (("point",), simulated),
            "exact_ratio": (("point",), exact),
        },
        figures=[Figure("figure", "Left: how the exact fluctuation changes when λ and S are doubled; the thin line is "
                        f"a change of {TOLERANCE:.0%}, dots are simulated. Right: what continuous time with noise "
                        "proportional to the Hessian gets wrong at (λ, S) itself. White: no second moment.", draw)],
        summary=[
            f"Doubling λ and S changes the fluctuation by less than {TOLERANCE:.0%} up to λ = {reach[0]:.3f} at S = 1 "
            f"and λ = {reach[-1]:.3f} at S = {sizes[-1]}: a larger batch does not help, because it is the step that "
            "doubles.",
            "Ratios at the simulated points, exact / simulated: "
            + ", ".join(f"{e:.3f} / {s:.3f}" for e, s in zip(exact, simulated, strict=True)) + ".",
        ],
        provenance=short_provenance(measured[settings[0]], batch_size=all_sizes, optimizer=f"SGD, rates {all_rates}",
                                    problem=f"A=diag{COVARIANCE}, sigma=0.5"),
    )
