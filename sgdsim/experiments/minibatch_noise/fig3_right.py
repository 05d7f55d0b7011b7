"""Figure 3, right: test loss over weight decay where the best weight decay is zero."""

from __future__ import annotations

import numpy as np

from sgdsim.experiments.framework.findings import Findings, Scale
from sgdsim.experiments.framework.measure import short_provenance
from sgdsim.experiments.framework.registry import experiment
from sgdsim.experiments.minibatch_noise.decay import loss_over_decay, stable_interval

CURVATURE, RATE, BATCH = 1.0, 0.5, 1


@experiment("fig3_right", "Test loss over weight decay: the optimum is zero",
            "Strength of Minibatch Noise in SGD, figure 3 right")  # fmt: skip
def fig3_right(scale: Scale) -> Findings:
    """Simulate the test loss over the weight decay at a = 1, lambda = 0.5, S = 1."""
    low, high = stable_interval(CURVATURE, RATE, BATCH)
    gammas = np.unique(np.round([*np.linspace(low + 0.2, high - 0.2, scale.points), 0.0], 3)).tolist()
    curve = loss_over_decay(CURVATURE, RATE, BATCH, gammas, scale, seed=31)
    loss = curve.simulated
    return Findings(
        verdicts=curve.hold("γ={:g}"),
        data=curve.data("gamma", "test_loss"),
        figures=[
            curve.figure(
                "Test loss over the strength of weight decay. It vanishes at γ = 0, where the noise "
                "vanishes too, and diverges at both limits.",
                xlabel="weight decay γ", ylabel="test loss", title="a = 1, λ = 0.5, S = 1", limits=(low, high),
                optimum=0.0, ylim=(-0.03 * loss.max(), 1.5 * loss.max()),
            )
        ],
        summary=[
            f"Smallest simulated test loss {loss.min():.2g}, at γ = {gammas[loss.argmin()]:g}; theory says 0 at γ = 0.",
            f"Mean-square stable for γ between {low:.3f} and {high:.3f}. At batch size 1 the tails are so heavy "
            "that the fourth moment is infinite: second moments have no honest error bar there, and "
            "the verdicts say underpowered.",
        ],
        provenance=short_provenance(curve.points[0].result, problem=f"a={CURVATURE}, u=1, weight_decay={gammas}"),
    )
