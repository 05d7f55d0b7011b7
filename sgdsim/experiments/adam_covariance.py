"""Adam's stationary covariance over beta_2: a self-consistent preconditioner, and its first correction."""

from __future__ import annotations

import numpy as np

from sgdsim.engine import simulate
from sgdsim.experiments.findings import Figure, Findings, Scale, Table
from sgdsim.experiments.measure import hold, settling_steps, short_provenance
from sgdsim.experiments.registry import experiment
from sgdsim.optimizers import Adam
from sgdsim.plots import curve, panels
from sgdsim.problems import LinearRegression
from sgdsim.solver import predict

RATE, BATCH = 0.05, 8
PROBLEM = LinearRegression([[1.0, 0.3], [0.3, 0.5]], [1.0, -1.0], label_noise=0.5)
MEMORIES = (10, 20, 50, 100)  # 1 / (1 - beta_2)
B1S = (0.0, 0.9)


@experiment(
    "adam_covariance",
    "Adam's stationary covariance over beta_2",
    "ours; the mean field of the slow dynamics of Adam on a quadratic",
)
def adam_covariance(scale: Scale) -> Findings:
    """Simulate the covariance and divide it by the mean field's, and compare with the corrected theory."""
    points, lines, ratios = [], {}, {}
    b2s = [1 - 1 / memory for memory in MEMORIES]
    fine = 1 / np.geomspace(MEMORIES[0], MEMORIES[-1], 6 if scale.name == "smoke" else 25)
    for b1 in B1S:
        flat = {b2: _trace(b1, b2, "mean_field") for b2 in b2s}
        lines[b1] = [_trace(b1, 1 - tau, "exact") / _trace(b1, 1 - tau, "mean_field") - 1 for tau in fine]
        found = []
        for b2 in b2s:
            optimizer = Adam(RATE, b1, b2)
            theory = predict(PROBLEM, optimizer, batch_size=BATCH)
            burn_in = settling_steps(theory, left_over=1e-3)
            # the distance between theories is of the order of 1 - beta_2: longer runs where it is small
            steps = scale.steps if b2 < 0.97 else 3 * scale.steps
            result = simulate(
                PROBLEM, optimizer, batch_size=BATCH, chains=scale.chains // 4, steps=burn_in + steps, burn_in=burn_in,
                initial=PROBLEM.minimum, seed=6, progress=False,
            )
            points.append((f"β₁={b1:g}, β₂={b2:g}", result, theory))
            found.append((np.trace(result.covariance) / flat[b2] - 1, _error(result) / flat[b2]))
        ratios[b1] = np.array(found)

    def draw():
        figure, ax = panels(1, len(B1S), (9.0, 3.8), sharey=True)
        for place, b1 in zip(ax[0], B1S, strict=True):
            curve(
                {"first correction": (fine, 100 * np.array(lines[b1])), "mean field": (fine, np.zeros_like(fine))},
                (1 / np.array(MEMORIES), *(100 * ratios[b1].T)),
                ax=place,
                xlabel="1 − β₂",
                ylabel="tr Σ against mean field [%]" if b1 == B1S[0] else "",
                title=f"β₁ = {b1:g}, λ = {RATE:g}, b = {BATCH}",
                log="x",
                xticks=[1 / memory for memory in MEMORIES],
            )
        return figure

    worst = max(theory.theory_error for _, _, theory in points)
    return Findings(
        verdicts=hold(points),
        data={
            "b1": (("b1",), np.array(B1S)),
            "b2": (("b2",), np.array(b2s)),
            "simulated_excess": (("b1", "b2"), np.array([ratios[b1][:, 0] for b1 in B1S])),
            "simulated_excess_stderr": (("b1", "b2"), np.array([ratios[b1][:, 1] for b1 in B1S])),
            "line_one_minus_b2": (("line",), fine),
            "line_excess": (("b1", "line"), np.array([lines[b1] for b1 in B1S])),
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
                [_row(point, *ratios[b1][i]) for point, (b1, i) in zip(points, _places(), strict=True)],
            )
        ],
        summary=[
            f"The corrected theory states relative errors up to {worst:.2%} of itself; it is judged within them.",
            f"Mean field is off by up to {max(np.abs(r[:, 0]).max() for r in ratios.values()):.1%} in the trace.",
        ],
        provenance=short_provenance(points[0][1], optimizer=f"Adam, b1 {B1S}, b2 {b2s}", problem="D=2, sigma=0.5"),
    )


def _trace(b1: float, b2: float, approximation: str) -> float:
    theory = predict(PROBLEM, Adam(RATE, b1, b2), batch_size=BATCH, approximation=approximation)
    return float(np.trace(theory.covariance))


def _error(result) -> float:
    """At most this: the errors of the variances add up."""
    return float(np.sum(np.diag(result.covariance_stderr)))


def _places() -> list[tuple[float, int]]:
    return [(b1, i) for b1 in B1S for i in range(len(MEMORIES))]


def _row(point, excess: float, error: float) -> list[str]:
    name, result, theory = point
    corrected = np.trace(result.covariance) / np.trace(theory.covariance) - 1
    return [name, f"{100 * excess:+.2f}", f"{100 * corrected:+.2f}", f"{100 * error:.2f}",
            f"{100 * theory.theory_error:.2f}"]
