"""Figure 3, right: test loss over weight decay where the best weight decay is zero."""

from __future__ import annotations

import numpy as np

from sgdsim.experiments._decay import predicted_test_loss, simulate_decays, stable_interval
from sgdsim.experiments.findings import Figure, Findings, Scale
from sgdsim.experiments.measure import doubtful, hold, short_provenance
from sgdsim.experiments.registry import experiment
from sgdsim.plots import curve, panels

CURVATURE, RATE, BATCH = 1.0, 0.5, 1


@experiment(
    "fig3_right",
    "Test loss over weight decay: the optimum is zero",
    "Strength of Minibatch Noise in SGD, figure 3 right",
)
def fig3_right(scale: Scale) -> Findings:
    """Simulate the test loss over the weight decay at a = 1, lambda = 0.5, S = 1."""
    low, high = stable_interval(CURVATURE, RATE, BATCH)
    gammas = np.unique(np.round([*np.linspace(low + 0.2, high - 0.2, scale.points), 0.0], 3))
    points = simulate_decays(CURVATURE, RATE, BATCH, gammas.tolist(), scale, seed=31)
    fine = np.linspace(low, high, 203)[1:-1]
    line = np.array([predicted_test_loss(CURVATURE, RATE, BATCH, g) for g in fine])
    loss = np.array([r.test_loss for _, r, _ in points])
    stderr = np.array([r.test_loss_stderr for _, r, _ in points])
    best = float(gammas[loss.argmin()])

    def draw():
        figure, ax = panels(1, 1, (6.0, 4.0))
        curve(
            {"exact": (fine, line)},
            (gammas, loss, stderr),
            ax=ax[0, 0],
            xlabel="weight decay γ",
            ylabel="test loss",
            title="a = 1, λ = 0.5, S = 1",
            limits=(low, high),
            optimum=0.0,
            ylim=(-0.03 * loss.max(), 1.5 * loss.max()),
            doubtful=doubtful(r for _, r, _ in points),
        )
        return figure

    return Findings(
        verdicts=hold([(f"γ={g:g}", r, t) for g, r, t in points]),
        data={
            "gamma": (("gamma",), gammas),
            "test_loss": (("gamma",), loss),
            "test_loss_stderr": (("gamma",), stderr),
            "line_gamma": (("line_gamma",), fine),
            "line_test_loss": (("line_gamma",), line),
        },
        figures=[
            Figure(
                "figure",
                "Test loss over the strength of weight decay. It vanishes at γ = 0, where the noise "
                "vanishes too, and diverges at both limits.",
                draw,
            )
        ],
        summary=[
            f"Smallest simulated test loss {loss.min():.2g}, at γ = {best:g}; theory says 0 at γ = 0.",
            f"Mean-square stable for γ between {low:.3f} and {high:.3f}. At batch size 1 the tails are so heavy "
            "that the fourth moment is infinite: second moments have no honest error bar there, and "
            "the verdicts say underpowered.",
        ],
        provenance=short_provenance(points[0][1], problem=f"a={CURVATURE}, u=1, weight_decay={gammas.tolist()}"),
    )
