"""Damped Newton and the natural gradient beside SGD: excess loss over the learning rate."""

from __future__ import annotations

import numpy as np

from sgdsim.experiments.framework.curve import Curve, Point
from sgdsim.experiments.framework.findings import Data, Drawing, Figure, Findings, Scale
from sgdsim.experiments.framework.measure import hold, short_provenance, sweep_settled
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import SGD, DampedNewton, NaturalGradient
from sgdsim.plots import panels
from sgdsim.problems import LinearRegression
from sgdsim.solver import predict, stability

CURVATURES, NOISE, BATCH = (1.0, 0.1), 0.5, 16
NAMES = {SGD: "SGD", DampedNewton: "damped Newton", NaturalGradient: "natural gradient"}
REACH = {SGD: 0.75, DampedNewton: 0.75, NaturalGradient: 4.0}  # of the limit; of sigma^2 where there is none


@experiment("second_order", "Excess loss of damped Newton and the natural gradient",
            "Strength of Minibatch Noise in SGD, equations [83-89]; stationary.md section 8")  # fmt: skip
def second_order(scale: Scale) -> Findings:
    """Simulate the test loss of three optimizers over the learning rate on an ill-conditioned regression."""
    problem = LinearRegression(covariance=list(CURVATURES), label_noise=NOISE)
    curves: dict[str, Curve] = {}
    limits: dict[str, float] = {}
    data: Data = {}
    for number, (kind, name) in enumerate(NAMES.items()):
        limit = limits[name] = float(stability(problem, kind(0.01), batch_size=BATCH).max_learning_rate)
        top = REACH[kind] * (limit if np.isfinite(limit) else NOISE**2)
        rates = [round(float(rate), 4) for rate in top * np.linspace(0.15, 1, max(3, scale.points - 2))]
        laws = [predict(problem, kind(rate), batch_size=BATCH) for rate in rates]
        grid = sweep_settled(problem, kind(rates[0]), laws, batch_size=BATCH, learning_rate=rates,
                             chains=scale.chains // 4, steps=scale.steps, seed=80 + number)
        points = [Point(rate, grid.sel(learning_rate=rate), law) for rate, law in zip(rates, laws, strict=True)]
        fine = np.linspace(0.03 * top, min(1.25 * top, 0.99 * limit), 25)
        line = np.array([predict(problem, kind(rate), batch_size=BATCH).test_loss for rate in fine])
        curves[name] = Curve.of("test_loss", points, fine, {"exact": line})
        key = name.replace(" ", "_").lower()
        data |= curves[name].data("learning_rate", "test_loss", f"{key}_") | {f"{key}_max_learning_rate": ((), limit)}

    def draw() -> Drawing:
        figure, ax = panels(1, len(curves), (11.0, 3.6))
        for axis, (name, curve) in zip(ax[0], curves.items(), strict=True):
            curve.draw(axis, xlabel="learning rate λ", ylabel="test loss" if axis is ax[0, 0] else "", title=name,
                       limits=[limits[name]] if np.isfinite(limits[name]) else (), log="y")
        return figure

    held = [(f"{name}, λ={rate:g}", result, theory)
            for name, curve in curves.items() for rate, result, theory in curve.points]
    finite = ", ".join(f"{name} {limit:.4f}" for name, limit in limits.items() if np.isfinite(limit))
    return Findings(
        verdicts=hold(held),
        data=data,
        figures=[
            Figure(
                "figure",
                f"Excess loss at eigenvalues {CURVATURES}, σ = {NOISE}, S = {BATCH}. The natural gradient takes the "
                "covariance of its own noise as the metric, so its steps shrink as the noise grows: it has no limit.",
                draw,
            )
        ],
        summary=[
            f"Mean-square limits: {finite}; none for the natural gradient, whose matrix comes from the ensemble itself."
        ],
        provenance=short_provenance(points[0].result, optimizer=", ".join(NAMES.values())),
    )
