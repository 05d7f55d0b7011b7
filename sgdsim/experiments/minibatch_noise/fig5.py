"""Figure 5: test loss over weight decay where the best weight decay is negative."""

from __future__ import annotations

import numpy as np
import scipy

from sgdsim.comparisons.judge import judge
from sgdsim.experiments.framework.findings import ERROR_RATE, Findings, Scale, Verdict
from sgdsim.experiments.framework.measure import short_provenance
from sgdsim.experiments.framework.registry import experiment
from sgdsim.experiments.minibatch_noise.decay import (
    fitted_minimum,
    loss_over_decay,
    optimum_by_closed_form,
    predicted_test_loss,
    stable_interval,
)

CURVATURE, RATE, BATCH = 4.0, 1.0, 64


@experiment("fig5", "Test loss over weight decay: the optimum is negative",
            "Strength of Minibatch Noise in SGD, figure 5")  # fmt: skip
def fig5(scale: Scale) -> Findings:
    """Simulate the test loss over the weight decay at a = 4, lambda = 1, S = 64."""
    low, high = stable_interval(CURVATURE, RATE, BATCH)
    closed = optimum_by_closed_form(CURVATURE, RATE, BATCH)
    gammas = np.round(np.linspace(closed - 0.55, closed + 0.17, max(6, scale.points)), 4).tolist()
    curve = loss_over_decay(CURVATURE, RATE, BATCH, gammas, scale, seed=5)
    found = scipy.optimize.minimize_scalar(lambda g: predicted_test_loss(CURVATURE, RATE, BATCH, g), method="bounded",
                                           bounds=(low + 0.05, high - 0.05), options={"xatol": 1e-9}).x
    measured, error, heavy = fitted_minimum(curve)
    optimum = judge("optimal weight decay", measured, error, closed, error_rate=ERROR_RATE, note=heavy)
    return Findings(
        verdicts=[Verdict("optimum", optimum), *curve.hold("γ={:g}")],
        data=curve.data("gamma", "test_loss") | {
            "optimum_closed_form": ((), closed),
            "optimum_of_solver": ((), found),
            "optimum_simulated": ((), measured),
            "optimum_simulated_stderr": ((), error),
        },
        figures=[
            curve.figure(
                "Test loss over the strength of weight decay. Training is unstable without weight "
                "decay (γ = 0 lies right of the limit), and the best γ is negative.",
                xlabel="weight decay γ", ylabel="test loss", title="a = 4, λ = 1, S = 64", limits=(low, high),
                optimum=closed, ylim=(0, 1.6 * curve.simulated.max()),
            )
        ],
        summary=[
            f"Optimal weight decay: closed form {closed:.4f}, minimum of the solver's test loss {found:.4f}, "
            f"minimum of a cubic through the simulated points {measured:.3f} ± {error:.3f}.",
            f"Mean-square stable for γ between {low:.3f} and {high:.3f}.",
        ],
        provenance=short_provenance(curve.points[0].result, problem=f"a={CURVATURE}, u=1, weight_decay={gammas}"),
    )
