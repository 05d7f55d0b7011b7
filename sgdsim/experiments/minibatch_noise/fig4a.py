"""Figure 4a: the 1-D model fluctuation over the learning rate, with every approximation."""

from __future__ import annotations

import numpy as np

from sgdsim.experiments.framework.curve import Curve, Point
from sgdsim.experiments.framework.findings import Findings, Scale
from sgdsim.experiments.framework.measure import along, short_provenance, sweep_settled
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import SGD
from sgdsim.problems import LinearRegression
from sgdsim.solver import predict, stability

BATCH = 8


@experiment("fig4a", "Fluctuation over learning rate (1-D, label noise)",
            "Strength of Minibatch Noise in SGD, figure 4a")  # fmt: skip
def fig4a(scale: Scale) -> Findings:
    """Simulate Sigma over the learning rate at a = 1, sigma = 1, S = 8."""
    problem = LinearRegression(covariance=[1.0], label_noise=1.0)
    limit = float(stability(problem, SGD(0.1), batch_size=BATCH).max_learning_rate)
    rates = [round(float(r), 4) for r in limit * np.linspace(0.08, 0.85, scale.points)]
    theory = [predict(problem, SGD(r), batch_size=BATCH) for r in rates]
    grid = sweep_settled(problem, SGD(rates[0]), theory, batch_size=BATCH, learning_rate=rates, chains=scale.chains,
                         steps=scale.steps, seed=4)
    points = [Point(r, grid.sel(learning_rate=r), law) for r, law in zip(rates, theory, strict=True)]
    fine = np.linspace(0.02, 0.985, 60) * limit
    curve = Curve.of("covariance", points, fine, along([(problem, SGD(r), BATCH) for r in fine], "covariance"))
    return Findings(
        verdicts=curve.hold("λ={:g}"),
        data=curve.data("learning_rate", "covariance") | {"max_learning_rate": ((), limit)},
        figures=[
            curve.figure(
                "Stationary variance of the parameter. The approximations miss the divergence at the stability limit.",
                xlabel="learning rate λ", ylabel="fluctuation Σ", title=f"a = 1, σ = 1, S = {BATCH}", limits=[limit],
                log="y",
            )
        ],
        summary=[f"Mean-square limit {limit:.4f} (closed form 2S/(a(S+2)) = {2 * BATCH / (BATCH + 2):.4f})."],
        provenance=short_provenance(points[0].result, optimizer=f"SGD, learning rates {rates}", problem="a=1, sigma=1"),
    )
