"""Figure 5: test loss over weight decay where the best weight decay is negative."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from sgdsim.compare import judge
from sgdsim.experiments._decay import (
    fitted_minimum,
    optimum_by_closed_form,
    predicted_test_loss,
    simulate_decays,
    stable_interval,
)
from sgdsim.experiments.findings import ERROR_RATE, Figure, Findings, Scale, Verdict
from sgdsim.experiments.measure import doubtful, hold, short_provenance
from sgdsim.experiments.registry import experiment
from sgdsim.plots import curve, panels

CURVATURE, RATE, BATCH = 4.0, 1.0, 64


@experiment(
    "fig5",
    "Test loss over weight decay: the optimum is negative",
    "Strength of Minibatch Noise in SGD, figure 5",
)
def fig5(scale: Scale) -> Findings:
    """Simulate the test loss over the weight decay at a = 4, lambda = 1, S = 64."""
    low, high = stable_interval(CURVATURE, RATE, BATCH)
    closed = optimum_by_closed_form(CURVATURE, RATE, BATCH)
    gammas = np.round(np.linspace(closed - 0.55, closed + 0.17, max(6, scale.points)), 4)
    points = simulate_decays(CURVATURE, RATE, BATCH, gammas.tolist(), scale, seed=5)
    fine = np.linspace(low, high, 203)[1:-1]
    line = np.array([predicted_test_loss(CURVATURE, RATE, BATCH, g) for g in fine])
    found = minimize_scalar(
        lambda g: predicted_test_loss(CURVATURE, RATE, BATCH, g),
        bounds=(low + 0.05, high - 0.05),
        method="bounded",
        options={"xatol": 1e-9},
    ).x
    measured, error, heavy = fitted_minimum(points)
    loss = np.array([r.test_loss for _, r, _ in points])
    stderr = np.array([r.test_loss_stderr for _, r, _ in points])
    optimum = judge("optimal weight decay", measured, error, closed, error_rate=ERROR_RATE, note=heavy)

    def draw():
        figure, ax = panels(1, 1, (6.0, 4.0))
        curve(
            {"exact": (fine, line)},
            (gammas, loss, stderr),
            ax=ax[0, 0],
            xlabel="weight decay γ",
            ylabel="test loss",
            title="a = 4, λ = 1, S = 64",
            limits=(low, high),
            optimum=closed,
            ylim=(0, 1.6 * loss.max()),
            doubtful=doubtful(r for _, r, _ in points),
        )
        return figure

    return Findings(
        verdicts=[Verdict("optimum", optimum), *hold([(f"γ={g:g}", r, t) for g, r, t in points])],
        data={
            "gamma": (("gamma",), gammas),
            "test_loss": (("gamma",), loss),
            "test_loss_stderr": (("gamma",), stderr),
            "line_gamma": (("line_gamma",), fine),
            "line_test_loss": (("line_gamma",), line),
            "optimum_closed_form": ((), closed),
            "optimum_of_solver": ((), found),
            "optimum_simulated": ((), measured),
            "optimum_simulated_stderr": ((), error),
        },
        figures=[
            Figure(
                "figure",
                "Test loss over the strength of weight decay. Training is unstable without weight "
                "decay (γ = 0 lies right of the limit), and the best γ is negative.",
                draw,
            )
        ],
        summary=[
            f"Optimal weight decay: closed form {closed:.4f}, minimum of the solver's test loss {found:.4f}, "
            f"minimum of a cubic through the simulated points {measured:.3f} ± {error:.3f}.",
            f"Mean-square stable for γ between {low:.3f} and {high:.3f}.",
        ],
        provenance=short_provenance(points[0][1], problem=f"a={CURVATURE}, u=1, weight_decay={gammas.tolist()}"),
    )
