"""Figure 4a: the 1-D model fluctuation over the learning rate, with every approximation."""

from __future__ import annotations

import numpy as np

from sgdsim.engine import sweep
from sgdsim.experiments.findings import Figure, Findings, Scale
from sgdsim.experiments.measure import along, doubtful, hold, settling_steps, short_provenance
from sgdsim.experiments.registry import experiment
from sgdsim.optimizers import SGD
from sgdsim.plots import curve, panels
from sgdsim.problems import LinearRegression
from sgdsim.solver import predict, stability

BATCH = 8


@experiment(
    "fig4a",
    "Fluctuation over learning rate (1-D, label noise)",
    "Strength of Minibatch Noise in SGD, figure 4a",
)
def fig4a(scale: Scale) -> Findings:
    """Simulate Sigma over the learning rate at a = 1, sigma = 1, S = 8."""
    problem = LinearRegression(covariance=[1.0], label_noise=1.0)
    limit = float(stability(problem, SGD(0.1), batch_size=BATCH).mean_square)
    rates = [round(float(r), 4) for r in limit * np.linspace(0.08, 0.85, scale.points)]
    theory = {r: predict(problem, SGD(r), batch_size=BATCH) for r in rates}
    burn_in = settling_steps(*theory.values())
    grid = sweep(
        problem,
        SGD(rates[0]),
        batch_size=[BATCH],
        learning_rate=rates,
        chains=scale.chains,
        steps=burn_in + scale.steps,
        burn_in=burn_in,
        seed=4,
        progress=False,
    )
    measured = {r: grid.sel(batch_size=BATCH, learning_rate=r) for r in rates}
    fine = np.linspace(0.02, 0.985, 60) * limit
    lines = along([(problem, SGD(r), BATCH) for r in fine], "covariance")
    simulated = np.array([measured[r].covariance[0, 0] for r in rates])
    stderr = np.array([measured[r].covariance_stderr[0, 0] for r in rates])

    def draw():
        figure, ax = panels(1, 1, (6.0, 4.0))
        curve(
            {name: (fine, values) for name, values in lines.items()},
            (rates, simulated, stderr),
            ax=ax[0, 0],
            xlabel="learning rate λ",
            ylabel="fluctuation Σ",
            title=f"a = 1, σ = 1, S = {BATCH}",
            limits=[limit],
            log="y",
            doubtful=doubtful(measured[r] for r in rates),
        )
        return figure

    return Findings(
        verdicts=hold([(f"λ={r:g}", measured[r], theory[r]) for r in rates]),
        data={
            "learning_rate": (("learning_rate",), np.array(rates)),
            "covariance": (("learning_rate",), simulated),
            "covariance_stderr": (("learning_rate",), stderr),
            "line_learning_rate": (("line_learning_rate",), fine),
            **{f"line_{name}": (("line_learning_rate",), values) for name, values in lines.items()},
            "max_learning_rate": ((), limit),
        },
        figures=[
            Figure(
                "figure",
                "Stationary variance of the parameter. The approximations miss the divergence at the stability limit.",
                draw,
            )
        ],
        summary=[f"Mean-square limit {limit:.4f} (closed form 2S/(a(S+2)) = {2 * BATCH / (BATCH + 2):.4f})."],
        provenance=short_provenance(
            measured[rates[0]], optimizer=f"SGD, learning rates {rates}", problem="a=1, sigma=1"
        ),
    )
