"""A two-layer linear network under label noise: the law of its product, whatever the gauge of its layers."""

from __future__ import annotations

import numpy as np

from sgdsim.engine import simulate
from sgdsim.experiments.framework.curve import Curve, Point
from sgdsim.experiments.framework.findings import Drawing, Figure, Findings, Scale
from sgdsim.experiments.framework.measure import settling_steps, short_provenance
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import SGD
from sgdsim.plots import panels
from sgdsim.problems import TwoLayerLinear
from sgdsim.solver import predict
from sgdsim.solver.stationary import flattest_minimum
from sgdsim.statistics import Losses, ProductMoments

INNER = ((1.2, 0.3, 0.0), (-0.2, 1.0, 0.4))
OUTER = ((1.4, 0.2), (-0.3, 0.9))
NOISE, BATCH = 0.3, 8


@experiment("linear_network", "The product of a two-layer linear network under label noise",
            "theory/linear-networks.md (label-noise regularisation of a two-layer teacher-student network)")
def linear_network(scale: Scale) -> Findings:
    """Simulate mean and covariance of W_2 W_1 from the flattest minimum on, over the learning rate."""
    problem = TwoLayerLinear(INNER, OUTER, label_noise=NOISE)
    rates = [0.02, 0.05, 0.1] if scale.points <= 5 else [0.01, 0.02, 0.05, 0.1, 0.15]
    points = []
    for rate in rates:
        theory = predict(problem, SGD(rate), batch_size=BATCH)
        burn_in = settling_steps(theory)
        result = simulate(problem, SGD(rate), batch_size=BATCH, chains=scale.chains // 4, steps=burn_in + scale.steps,
                          burn_in=burn_in, seed=27, initial=flattest_minimum(problem, SGD(rate), batch_size=BATCH),
                          statistics=[ProductMoments(problem), Losses()], progress=False)
        points.append(Point(rate, result, theory))
    fine = np.linspace(0.01, 0.17, 33)
    laws = [predict(problem, SGD(rate), batch_size=BATCH) for rate in fine]
    variance = Curve.of("product_covariance", points, fine,
                        {"theory": np.array([np.trace(law.product_covariance) for law in laws])})
    shift = np.array([point.result.product_mean - problem.target.ravel() for point in points])
    length = np.linalg.norm(shift, axis=1)
    error = shift / length[:, None] * [point.result.product_mean_stderr for point in points]
    moved = np.array([np.linalg.norm(law.product_mean - problem.target.ravel()) for law in laws])
    pull = Curve(variance.x, length, np.sqrt(np.sum(error**2, axis=1)), fine, {"theory": moved})

    def draw() -> Drawing:
        figure, ax = panels(1, 2, (9.5, 3.8))
        variance.draw(ax[0, 0], xlabel="learning rate λ", ylabel="Tr Cov(W₂W₁)", title="fluctuation of the product")
        pull.draw(ax[0, 1], xlabel="learning rate λ", ylabel="|E W₂W₁ − T|", title="pull of the label noise")
        return figure

    return Findings(
        verdicts=variance.hold("λ={:g}"),
        data=variance.data("learning_rate", "variance") | pull.data("learning_rate", "shift"),
        figures=[
            Figure(
                "figure",
                f"3 inputs, 2 hidden units, 2 outputs, σ = {NOISE}, b = {BATCH}. The weights wander along the minima; "
                "their product settles. Label noise also pulls it towards 0, like a nuclear norm.",
                draw,
            )
        ],
        summary=[
            "Estimated relative error of the theory: "
            + ", ".join(f"{theory.theory_error:.2g} at λ = {rate:g}" for rate, _, theory in points) + "."
        ],
        provenance=short_provenance(points[0].result, optimizer=f"SGD, learning rates {rates}"),
    )
