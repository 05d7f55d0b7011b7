"""A two-layer linear network under label noise: the law of its product, whatever the gauge of its layers."""

from __future__ import annotations

import numpy as np

from sgdsim.engine import simulate
from sgdsim.experiments.findings import Figure, Findings, Scale
from sgdsim.experiments.measure import hold, settling_steps, short_provenance
from sgdsim.experiments.registry import experiment
from sgdsim.optimizers import SGD
from sgdsim.plots import curve, panels
from sgdsim.problems import TwoLayerLinear
from sgdsim.solver import flattest_minimum, predict
from sgdsim.statistics import Losses, ProductMoments

INNER = ((1.2, 0.3, 0.0), (-0.2, 1.0, 0.4))
OUTER = ((1.4, 0.2), (-0.3, 0.9))
NOISE, BATCH = 0.3, 8


@experiment(
    "linear_network",
    "The product of a two-layer linear network under label noise",
    "theory/linear-networks.md (label-noise regularisation of a two-layer teacher-student network)",
)
def linear_network(scale: Scale) -> Findings:
    """Simulate mean and covariance of W_2 W_1 from the flattest minimum on, over the learning rate."""
    problem = TwoLayerLinear(INNER, OUTER, label_noise=NOISE)
    rates = [0.02, 0.05, 0.1] if scale.points <= 5 else [0.01, 0.02, 0.05, 0.1, 0.15]
    theory = {rate: predict(problem, SGD(rate), batch_size=BATCH) for rate in rates}
    measured = {}
    for rate in rates:
        burn_in = settling_steps(theory[rate])
        measured[rate] = simulate(
            problem,
            SGD(rate),
            batch_size=BATCH,
            chains=scale.chains // 4,
            steps=burn_in + scale.steps,
            burn_in=burn_in,
            seed=27,
            initial=flattest_minimum(problem),
            statistics=[ProductMoments(problem), Losses()],
            progress=False,
        )
    fine = np.linspace(0.01, 0.17, 33)
    lines = [predict(problem, SGD(rate), batch_size=BATCH) for rate in fine]
    variance = np.array([np.trace(law.product_covariance) for law in lines])
    moved = np.array([np.linalg.norm(law.product_mean - problem.target.ravel()) for law in lines])
    found = np.array([np.trace(measured[rate].product_covariance) for rate in rates])
    errors = [np.sqrt(np.sum(np.diag(measured[rate].product_covariance_stderr) ** 2)) for rate in rates]
    shift = np.array([measured[rate].product_mean - problem.target.ravel() for rate in rates])
    length = np.linalg.norm(shift, axis=1)
    shift_error = [
        np.sqrt(np.sum((s / size * measured[rate].product_mean_stderr) ** 2))
        for rate, s, size in zip(rates, shift, length, strict=True)
    ]

    def draw():
        figure, ax = panels(1, 2, (9.5, 3.8))
        curve({"theory": (fine, variance)}, (rates, found, errors), ax=ax[0, 0], xlabel="learning rate λ",
              ylabel="Tr Cov(W₂W₁)", title="fluctuation of the product")
        curve({"theory": (fine, moved)}, (rates, length, shift_error), ax=ax[0, 1], xlabel="learning rate λ",
              ylabel="|E W₂W₁ − T|", title="pull of the label noise")
        return figure

    return Findings(
        verdicts=hold([(f"λ={rate:g}", measured[rate], theory[rate]) for rate in rates]),
        data={
            "learning_rate": (("learning_rate",), np.array(rates)),
            "variance": (("learning_rate",), found),
            "variance_stderr": (("learning_rate",), np.array(errors)),
            "shift": (("learning_rate",), length),
            "shift_stderr": (("learning_rate",), np.array(shift_error)),
            "line_learning_rate": (("line_learning_rate",), fine),
            "line_variance": (("line_learning_rate",), variance),
            "line_shift": (("line_learning_rate",), moved),
        },
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
            + ", ".join(f"{theory[rate].theory_error:.2g} at λ = {rate:g}" for rate in rates) + "."
        ],
        provenance=short_provenance(measured[rates[0]], optimizer=f"SGD, learning rates {rates}"),
    )
