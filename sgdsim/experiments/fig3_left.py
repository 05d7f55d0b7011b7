"""Figure 3, left: the 1-D model fluctuation over the batch size, on a finite data set."""

from __future__ import annotations

import numpy as np

from sgdsim.engine import sweep
from sgdsim.experiments.findings import Figure, Findings, Scale
from sgdsim.experiments.measure import along, doubtful, hold, settling_steps, short_provenance
from sgdsim.experiments.registry import experiment
from sgdsim.optimizers import SGD
from sgdsim.plots import curve, panels
from sgdsim.problems import DatasetRegression
from sgdsim.solver import predict, stability

CURVATURE, RATE, EXAMPLES, NOISE = 1.5, 1.0, 10_000, 0.5
SIZES = {5: (10, 16, 40, 100, 400), 9: (8, 10, 16, 25, 40, 100, 200, 400, 1000)}


@experiment(
    "fig3_left",
    "Fluctuation over batch size (1-D, finite data)",
    "Strength of Minibatch Noise in SGD, figure 3 left",
)
def fig3_left(scale: Scale) -> Findings:
    """Simulate Sigma over the batch size at a = 1.5, lambda = 1, N = 10,000, sigma^2 = 0.25."""
    rng = np.random.default_rng(3)
    features = np.sqrt(CURVATURE) * rng.standard_normal((EXAMPLES, 1))
    problem = DatasetRegression(features, NOISE * rng.standard_normal(EXAMPLES))
    optimizer = SGD(RATE)
    sizes = list(SIZES[5] if scale.points <= 5 else SIZES[9])
    chains = max(1024, scale.chains // 4)
    theory = {b: predict(problem, optimizer, batch_size=b) for b in sizes}
    burn_in = settling_steps(*theory.values())
    grid = sweep(
        problem,
        optimizer,
        batch_size=sizes,
        chains=chains,
        steps=burn_in + scale.steps // 2,
        burn_in=burn_in,
        seed=3,
        initial=problem.minimum,
        progress=False,
    )
    measured = {b: grid.sel(batch_size=b) for b in sizes}
    fine = np.unique(np.geomspace(7, max(sizes), 40).round().astype(int))
    lines = along([(problem, optimizer, int(b)) for b in fine], "covariance")
    smallest = next((b for b in range(1, 1000) if stability(problem, optimizer, batch_size=b).mean_square > RATE), 1)
    simulated = np.array([measured[b].covariance[0, 0] for b in sizes])
    stderr = np.array([measured[b].covariance_stderr[0, 0] for b in sizes])

    def draw():
        figure, ax = panels(1, 1, (6.0, 4.0))
        curve(
            {name: (fine, values) for name, values in lines.items()},
            (sizes, simulated, stderr),
            ax=ax[0, 0],
            xlabel="batch size S",
            ylabel="fluctuation Σ",
            title="a = 1.5, λ = 1, σ² = 0.25, N = 10,000",
            limits=[smallest - 0.5],
            log="xy",
            doubtful=doubtful(measured[b] for b in sizes),
        )
        return figure

    return Findings(
        verdicts=hold([(f"S={b}", measured[b], theory[b]) for b in sizes]),
        data={
            "batch_size": (("batch_size",), np.array(sizes)),
            "covariance": (("batch_size",), simulated),
            "covariance_stderr": (("batch_size",), stderr),
            "line_batch_size": (("line_batch_size",), fine),
            **{f"line_{name}": (("line_batch_size",), values) for name, values in lines.items()},
        },
        figures=[
            Figure(
                "figure",
                "Stationary variance of the parameter. Only the exact finite-data theory follows "
                "the simulation at every batch size; error bars are 2 standard errors.",
                draw,
            )
        ],
        summary=[
            f"Mean-square stable from batch size {smallest} on. The data set is drawn once; sampling is with "
            "replacement; chains start at the minimum."
        ],
        provenance=short_provenance(measured[sizes[0]], batch_size=sizes, problem="a=1.5, N=10000, sigma=0.5"),
    )
