"""Damped Newton and the natural gradient beside SGD: excess loss over the learning rate."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdsim.engine import sweep
from sgdsim.experiments.findings import Figure, Findings, Scale
from sgdsim.experiments.measure import doubtful, hold, settling_steps, short_provenance
from sgdsim.experiments.registry import experiment
from sgdsim.optimizers import SGD, DampedNewton, NaturalGradient
from sgdsim.plots import curve, panels
from sgdsim.problems import LinearRegression
from sgdsim.solver import predict, stability

CURVATURES, NOISE, BATCH = (1.0, 0.1), 0.5, 16
NAMES = {SGD: "SGD", DampedNewton: "damped Newton", NaturalGradient: "natural gradient"}
REACH = {SGD: 0.75, DampedNewton: 0.75, NaturalGradient: 4.0}  # of the limit; of sigma^2 where there is none


@experiment(
    "second_order",
    "Excess loss of damped Newton and the natural gradient",
    "Strength of Minibatch Noise in SGD, equations [83-89]; stationary.md section 8",
)
def second_order(scale: Scale) -> Findings:
    """Simulate the test loss of three optimizers over the learning rate on an ill-conditioned regression."""
    problem = LinearRegression(covariance=list(CURVATURES), label_noise=NOISE)
    verdicts, shown, provenance = [], [], {}
    data: dict[str, tuple[tuple[str, ...], Any]] = {}
    for number, (kind, name) in enumerate(NAMES.items()):
        limit = float(stability(problem, kind(0.01), batch_size=BATCH).mean_square)
        unit = limit if np.isfinite(limit) else NOISE**2
        top = REACH[kind] * unit
        rates = [round(float(rate), 4) for rate in top * np.linspace(0.15, 1, max(3, scale.points - 2))]
        theory = {rate: predict(problem, kind(rate), batch_size=BATCH) for rate in rates}
        burn_in = settling_steps(*theory.values())
        grid = sweep(
            problem,
            kind(rates[0]),
            batch_size=[BATCH],
            learning_rate=rates,
            chains=scale.chains // 4,
            steps=burn_in + scale.steps,
            burn_in=burn_in,
            seed=80 + number,
            progress=False,
        )
        measured = [grid.sel(batch_size=BATCH, learning_rate=rate) for rate in rates]
        fine = np.linspace(0.03 * top, min(1.25 * top, 0.99 * limit), 25)
        line = np.array([predict(problem, kind(rate), batch_size=BATCH).test_loss for rate in fine])
        loss = np.array([result.test_loss for result in measured])
        stderr = np.array([result.test_loss_stderr for result in measured])
        verdicts += [(f"{name}, λ={r:g}", result, theory[r]) for r, result in zip(rates, measured, strict=True)]
        shown.append((name, limit, fine, line, rates, loss, stderr, doubtful(measured)))
        key = name.replace(" ", "_").lower()
        data |= {
            f"{key}_learning_rate": ((f"{key}_learning_rate",), np.array(rates)),
            f"{key}_test_loss": ((f"{key}_learning_rate",), loss),
            f"{key}_test_loss_stderr": ((f"{key}_learning_rate",), stderr),
            f"{key}_line_learning_rate": ((f"{key}_line_learning_rate",), fine),
            f"{key}_line_test_loss": ((f"{key}_line_learning_rate",), line),
            f"{key}_max_learning_rate": ((), limit),
        }
        provenance = short_provenance(measured[0], optimizer=", ".join(NAMES.values()))

    def draw():
        figure, ax = panels(1, len(shown), (11.0, 3.6))
        for column, (name, limit, fine, line, rates, loss, stderr, heavy) in enumerate(shown):
            curve(
                {"exact": (fine, line)},
                (rates, loss, stderr),
                ax=ax[0, column],
                xlabel="learning rate λ",
                ylabel="test loss" if column == 0 else "",
                title=name,
                limits=[limit] if np.isfinite(limit) else (),
                log="y",
                doubtful=heavy,
            )
        return figure

    finite = {name: limit for name, limit, *_ in shown if np.isfinite(limit)}
    return Findings(
        verdicts=hold(verdicts),
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
            "Mean-square limits: " + ", ".join(f"{name} {limit:.4f}" for name, limit in finite.items())
            + "; none for the natural gradient, whose matrix comes from the ensemble itself.",
        ],
        provenance=provenance,
    )
