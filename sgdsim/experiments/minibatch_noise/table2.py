"""Table 2: every approximation side by side, for label noise, input noise and weight decay."""

from __future__ import annotations

import numpy as np

from sgdsim.engine import simulate
from sgdsim.experiments.framework.findings import Drawing, Figure, Findings, Scale, Table
from sgdsim.experiments.framework.measure import APPROXIMATIONS, hold, scalar, settling_steps, short_provenance
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import SGD
from sgdsim.plots import panels
from sgdsim.plots.style import APPROXIMATIONS as LOOKS
from sgdsim.plots.style import GUIDE, MARKERS, styled
from sgdsim.problems import LinearRegression
from sgdsim.solver import Prediction, predict

QUANTITIES = {"covariance": "tr Σ", "train_loss": "train loss", "test_loss": "test loss"}
A = np.array([[1.0, 0.3], [0.3, 0.5]])


def settings() -> dict[str, tuple[LinearRegression, SGD, int]]:
    """Return problem, optimizer and batch size of each line of the table."""
    teacher = [1.0, -0.5]
    noisy = LinearRegression(covariance=A, teacher=teacher, label_noise=0.5)
    blurred = LinearRegression(covariance=A, teacher=teacher, input_noise=[0.3, 0.3])
    decayed = LinearRegression(covariance=A, teacher=teacher, weight_decay=0.3)
    return {
        "label noise, λ=0.2, S=4": (noisy, SGD(0.2), 4),
        "label noise, λ=0.6, S=16": (noisy, SGD(0.6), 16),
        "label noise, momentum 0.5, λ=0.2, S=4": (noisy, SGD(0.2, momentum=0.5), 4),
        "input noise, λ=0.3, S=8": (blurred, SGD(0.3), 8),
        "weight decay 0.3, λ=0.3, S=8": (decayed, SGD(0.3), 8),
    }


@experiment("table2", "All approximations side by side",
            "Strength of Minibatch Noise in SGD, table 2")  # fmt: skip
def table2(scale: Scale) -> Findings:
    """Compare exact, discrete-time and continuous-time theory with the simulation in several settings."""
    cases = settings()
    theory: dict[str, dict[str, Prediction]] = {}
    measured = {}
    for name, (problem, optimizer, b) in cases.items():
        theory[name] = {how: predict(problem, optimizer, batch_size=b, approximation=how) for how in APPROXIMATIONS}
        burn_in = settling_steps(theory[name]["exact"])
        measured[name] = simulate(problem, optimizer, batch_size=b, chains=scale.chains, steps=burn_in + scale.steps,
                                  burn_in=burn_in, seed=2, initial=problem.minimum, progress=False)
    simulated = np.array([[scalar(getattr(measured[name], q)) for q in QUANTITIES] for name in cases])
    predicted = np.array(
        [[[scalar(getattr(theory[name][how], q)) for q in QUANTITIES] for how in APPROXIMATIONS] for name in cases]
    )
    errors = predicted / predicted[:, :1] - 1

    def draw() -> Drawing:
        figure, ax = panels(1, len(QUANTITIES), (11.0, 3.8), sharey=True)
        with styled():
            for axis, (k, label) in zip(ax[0], enumerate(QUANTITIES.values()), strict=True):
                for i, how in enumerate(APPROXIMATIONS):
                    axis.plot(100 * errors[:, i, k], np.arange(len(cases)), MARKERS[i], color=LOOKS[how].color,
                              markerfacecolor="white", markeredgewidth=1.6, markersize=7, label=LOOKS[how].label)
                axis.axvline(0, color=GUIDE, zorder=1)
                axis.set(xlabel=f"error of {label} (%)", title=label)
            ax[0, 0].set_yticks(np.arange(len(cases)), list(cases))
            ax[0, 0].invert_yaxis()
            figure.legend(*ax[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return figure

    rows = [
        [name, symbol, f"{simulated[i, k]:.5f}", *(f"{value:.5f}" for value in predicted[i, :, k])]
        for i, name in enumerate(cases) for k, symbol in enumerate(QUANTITIES.values())
    ]  # fmt: skip
    axes = ("setting", "approximation", "quantity")
    return Findings(
        verdicts=hold([(name, measured[name], theory[name]["exact"]) for name in cases]),
        data={
            "setting": (("setting",), np.array(list(cases))),
            "approximation": (("approximation",), np.array(APPROXIMATIONS)),
            "quantity": (("quantity",), np.array(list(QUANTITIES))),
            "relative_error": (axes, errors),
            "simulated": (("setting", "quantity"), simulated),
        },
        figures=[Figure("figure", "How far each approximation is from the exact value.", draw)],
        summary=["The verdicts below hold the exact theory against the simulation."],
        tables=[Table("Simulation and theories", ["setting", "quantity", "simulated", *APPROXIMATIONS], rows)],
        provenance=short_provenance(next(iter(measured.values())), problem="five settings, see the table"),
    )
