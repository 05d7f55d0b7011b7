"""Adam's stationary covariance over beta_2: a self-consistent preconditioner, and its first correction."""

from __future__ import annotations

import numpy as np

from sgdsim.engine import simulate
from sgdsim.experiments.framework.curve import Curve
from sgdsim.experiments.framework.findings import Drawing, Figure, Findings, Scale, Table
from sgdsim.experiments.framework.measure import hold, settling_steps, short_provenance
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import Adam
from sgdsim.plots import panels
from sgdsim.problems import LinearRegression
from sgdsim.results import Result
from sgdsim.solver import Prediction, predict

RATE, BATCH = 0.05, 8
PROBLEM = LinearRegression([[1.0, 0.3], [0.3, 0.5]], [1.0, -1.0], label_noise=0.5)
MEMORIES = (10, 20, 50, 100)  # 1 / (1 - beta_2)
B1S = (0.0, 0.9)


@experiment("adam_covariance", "Adam's stationary covariance over beta_2",
            "ours; the mean field of the slow dynamics of Adam on a quadratic")  # fmt: skip
def adam_covariance(scale: Scale) -> Findings:
    """Simulate the covariance and divide it by the mean field's, and compare with the corrected theory."""
    points: list[tuple[str, Result, Prediction]] = []
    curves: dict[float, Curve] = {}
    b2s = [1 - 1 / memory for memory in MEMORIES]
    fine = 1 / np.geomspace(MEMORIES[0], MEMORIES[-1], 6 if scale.name == "smoke" else 25)
    for b1 in B1S:
        found = []
        for b2 in b2s:
            optimizer = Adam(RATE, b1, b2)
            theory = predict(PROBLEM, optimizer, batch_size=BATCH)
            burn_in = settling_steps(theory, left_over=1e-3)
            # the distance between theories is of the order of 1 - beta_2: longer runs where it is small
            steps = scale.steps if b2 < 0.97 else 3 * scale.steps
            result = simulate(PROBLEM, optimizer, batch_size=BATCH, chains=scale.chains // 4, steps=burn_in + steps,
                              burn_in=burn_in, initial=PROBLEM.minimum, seed=6, progress=False)
            points.append((f"β₁={b1:g}, β₂={b2:g}", result, theory))
            flat = _trace(b1, b2, "mean_field")
            found.append((np.trace(result.covariance) / flat - 1, _error(result) / flat))
        first = [_trace(b1, 1 - tau, "exact") / _trace(b1, 1 - tau, "mean_field") - 1 for tau in fine]
        value, error = np.array(found).T
        curves[b1] = Curve(1 / np.array(MEMORIES), value, error, fine,
                           {"first correction": np.array(first), "mean field": np.zeros_like(fine)})

    def draw() -> Drawing:
        figure, ax = panels(1, len(B1S), (9.0, 3.8), sharey=True)
        for place, (b1, curve) in zip(ax[0], curves.items(), strict=True):
            label = "tr Σ against mean field [%]" if place is ax[0, 0] else ""
            curve.scaled(100).draw(place, xlabel="1 − β₂", ylabel=label, log="x", xticks=list(curve.x),
                                   title=f"β₁ = {b1:g}, λ = {RATE:g}, b = {BATCH}")
        return figure

    worst = max(theory.theory_error for _, _, theory in points)
    excess, stderr = (np.stack([getattr(curve, name) for curve in curves.values()]) for name in ("simulated", "stderr"))
    return Findings(
        verdicts=hold(points),
        data={
            "b1": (("b1",), np.array(B1S)),
            "b2": (("b2",), np.array(b2s)),
            "simulated_excess": (("b1", "b2"), excess),
            "simulated_excess_stderr": (("b1", "b2"), stderr),
            "line_one_minus_b2": (("line",), fine),
            "line_excess": (("b1", "line"), np.stack([c.lines["first correction"] for c in curves.values()])),
            "theory_error": (("b1", "b2"), np.reshape([t.theory_error for _, _, t in points], (len(B1S), -1))),
        },
        figures=[
            Figure(
                "figure",
                "Trace of the covariance relative to the mean field, where v does not fluctuate. The first correction "
                "in 1 − β₂ holds whatever the learning rate and β₁ are.",
                draw,
            )
        ],
        tables=[
            Table(
                "Trace of Σ: simulation less theory, percent",
                ["setting", "mean field", "first correction", "± standard error", "error stated"],
                [_row(*point, *pair) for point, *pair in zip(points, excess.ravel(), stderr.ravel(), strict=True)],
            )
        ],
        summary=[
            f"The corrected theory states relative errors up to {worst:.2%} of itself; it is judged within them.",
            f"Mean field is off by up to {np.abs(excess).max():.1%} in the trace.",
        ],
        provenance=short_provenance(points[0][1], optimizer=f"Adam, b1 {B1S}, b2 {b2s}", problem="D=2, sigma=0.5"),
    )


def _trace(b1: float, b2: float, approximation: str) -> float:
    theory = predict(PROBLEM, Adam(RATE, b1, b2), batch_size=BATCH, approximation=approximation)
    return float(np.trace(theory.covariance))


def _error(result: Result) -> float:
    """At most this: the errors of the variances add up."""
    return float(np.sum(np.diag(result.covariance_stderr)))


def _row(name: str, result: Result, theory: Prediction, excess: float, error: float) -> list[str]:
    corrected = np.trace(result.covariance) / np.trace(theory.covariance) - 1
    return [name, f"{100 * excess:+.2f}", f"{100 * corrected:+.2f}", f"{100 * error:.2f}",
            f"{100 * theory.theory_error:.2f}"]
