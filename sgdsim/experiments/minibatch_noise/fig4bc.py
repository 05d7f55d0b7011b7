"""Figures 4b and 4c: the shape of the 2-D fluctuation at a large and at a small batch size."""

from __future__ import annotations

import numpy as np

from sgdsim.experiments.framework.findings import Drawing, Figure, Findings, Scale
from sgdsim.experiments.framework.measure import APPROXIMATIONS, hold, short_provenance, sweep_settled
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import SGD
from sgdsim.plots import covariance_ellipses, panels
from sgdsim.problems import LinearRegression
from sgdsim.solver import predict

RATE, SIZES = 1.5, (100, 20)


@experiment("fig4bc", "Shape of the fluctuation (2-D ellipses)",
            "Strength of Minibatch Noise in SGD, figures 4b and 4c")  # fmt: skip
def fig4bc(scale: Scale) -> Findings:
    """Simulate the 2-D cloud at Hessian eigenvalues 1 and 0.5, lambda = 1.5, S = 100 and 20."""
    turn = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    problem = LinearRegression(covariance=turn @ np.diag([1.0, 0.5]) @ turn.T, label_noise=1.0)
    optimizer = SGD(RATE)
    theory = {
        b: {name: predict(problem, optimizer, batch_size=b, approximation=name) for name in APPROXIMATIONS}
        for b in SIZES
    }
    grid = sweep_settled(problem, optimizer, [t["exact"] for t in theory.values()], batch_size=list(SIZES),
                         chains=scale.chains, steps=scale.steps, seed=42)
    measured = {b: grid.sel(batch_size=b) for b in SIZES}

    def draw() -> Drawing:
        figure, ax = panels(1, len(SIZES), (9.6, 4.9))
        for axis, b in zip(ax[0], SIZES, strict=True):
            covariance_ellipses(measured[b], theory[b], ax=axis, title=f"S = {b}")
        return figure

    axes = ("batch_size", "parameter", "parameter_2")
    return Findings(
        verdicts=hold([(f"S={b}", measured[b], theory[b]["exact"]) for b in SIZES]),
        data={
            "batch_size": (("batch_size",), np.array(SIZES)),
            "covariance": (axes, np.stack([measured[b].covariance for b in SIZES])),
            "covariance_stderr": (axes, np.stack([measured[b].covariance_stderr for b in SIZES])),
            **{
                f"predicted_{name}": (axes, np.stack([theory[b][name].covariance for b in SIZES]))
                for name in APPROXIMATIONS
            },
        },
        figures=[Figure("figure", "Chains at the last step with 1- and 2-sigma ellipses, Hessian eigenvalues 1 and "
                        "0.5, λ = 1.5. At the small batch size only the exact theory has the right size.", draw)],
        summary=["Discreteness sets the shape at large batches; at small ones the batch noise adds to it."],
        provenance=short_provenance(measured[SIZES[0]], batch_size=list(SIZES),
                                    problem="eigenvalues 1 and 0.5, turned by 0.5 rad, sigma=1"),
    )  # fmt: skip
