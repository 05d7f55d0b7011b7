"""Figure 3, left: the 1-D model fluctuation over the batch size, on a finite data set."""

from __future__ import annotations

import numpy as np

from sgdsim.experiments.framework.curve import Curve, Point
from sgdsim.experiments.framework.findings import Findings, Scale
from sgdsim.experiments.framework.measure import along, short_provenance, sweep_settled
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import SGD
from sgdsim.problems import DatasetRegression
from sgdsim.solver import predict, stability

CURVATURE, RATE, EXAMPLES, NOISE = 1.5, 1.0, 10_000, 0.5
SIZES = {5: (10, 16, 40, 100, 400), 9: (8, 10, 16, 25, 40, 100, 200, 400, 1000)}


@experiment("fig3_left", "Fluctuation over batch size (1-D, finite data)",
            "Strength of Minibatch Noise in SGD, figure 3 left")  # fmt: skip
def fig3_left(scale: Scale) -> Findings:
    """Simulate Sigma over the batch size at a = 1.5, lambda = 1, N = 10,000, sigma^2 = 0.25."""
    rng = np.random.default_rng(3)
    features = np.sqrt(CURVATURE) * rng.standard_normal((EXAMPLES, 1))
    problem = DatasetRegression(features, NOISE * rng.standard_normal(EXAMPLES))
    optimizer = SGD(RATE)
    sizes = list(SIZES[5] if scale.points <= 5 else SIZES[9])
    theory = [predict(problem, optimizer, batch_size=b) for b in sizes]
    grid = sweep_settled(problem, optimizer, theory, batch_size=sizes, chains=max(1024, scale.chains // 4),
                         steps=scale.steps // 2, seed=3, initial=problem.minimum)
    points = [Point(b, grid.sel(batch_size=b), law) for b, law in zip(sizes, theory, strict=True)]
    fine = np.unique(np.geomspace(7, max(sizes), 40).round().astype(int))
    curve = Curve.of("covariance", points, fine, along([(problem, optimizer, int(b)) for b in fine], "covariance"))
    limits = ((b, stability(problem, optimizer, batch_size=b).max_learning_rate) for b in range(1, 1000))
    smallest = next((b for b, limit in limits if limit > RATE), 1)
    return Findings(
        verdicts=curve.hold("S={:g}"),
        data=curve.data("batch_size", "covariance"),
        figures=[
            curve.figure(
                "Stationary variance of the parameter. Only the exact finite-data theory follows "
                "the simulation at every batch size; error bars are 2 standard errors.",
                xlabel="batch size S", ylabel="fluctuation Σ", title="a = 1.5, λ = 1, σ² = 0.25, N = 10,000",
                limits=[smallest - 0.5], log="xy",
            )
        ],
        summary=[
            f"Mean-square stable from batch size {smallest} on. The data set is drawn once; sampling is with "
            "replacement; chains start at the minimum."
        ],
        provenance=short_provenance(points[0].result, batch_size=sizes, problem="a=1.5, N=10000, sigma=0.5"),
    )
