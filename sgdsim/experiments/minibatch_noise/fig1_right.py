"""Figure 1, right: test accuracy of logistic regression over weight decay."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from sgdsim._types import Params
from sgdsim.engine import simulate
from sgdsim.experiments.framework.curve import Curve
from sgdsim.experiments.framework.findings import ERROR_RATE, Drawing, Figure, Findings, Scale, Table, Verdict
from sgdsim.experiments.framework.measure import short_provenance
from sgdsim.experiments.framework.networks import Digits, claim, classes, digits, linear_layer
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import SGD
from sgdsim.plots import panels
from sgdsim.problems import FlaxNetwork
from sgdsim.results import Result

RATE, BATCH, TRAIN = 1.5, 32, 1437


class Size(NamedTuple):
    """How much to train; the control takes a rate so many times smaller for as many times more steps."""

    gammas: tuple[float, ...]
    chains: int
    epochs: int
    slower: int


SIZES = {
    "smoke": Size((-0.02, -0.005, 0.0, 0.005), 96, 3, 3),
    "laptop": Size((-0.02, -0.01, -0.005, -0.002, -0.001, -5e-4, 0.0, 5e-4, 0.001, 0.002, 0.005), 256, 10, 10),
    "full": Size((-0.02, -0.01, -0.005, -0.003, -0.002, -0.001, -5e-4, -2e-4, 0.0, 2e-4, 5e-4, 0.001, 0.002, 0.005),
                 1024, 30, 10),
}


@jax.jit
def correct(problem: FlaxNetwork, w: Params) -> jax.Array:
    """Whether each chain of w (D, chains) classifies each held-out image right, shape (images, chains)."""
    return problem.predict(w, problem.test_features).argmax(axis=1) == problem.test_targets[:, None]


def accuracies(data: Digits, rate: float, epochs: int, size: Size) -> tuple[np.ndarray, np.ndarray, Result]:
    """Share of right answers by weight decay and chain, and by weight decay and image; the last result."""
    by_chain, by_image = [], []
    for gamma in size.gammas:
        problem = FlaxNetwork(linear_layer(classes(data)), data.train, data.train_labels, "cross_entropy",
                              weight_decay=gamma, test_features=data.test, test_targets=data.test_labels)
        # The same starts and batches for every weight decay: differences are sharper than the points.
        result = simulate(problem, SGD(rate), batch_size=BATCH, chains=size.chains, seed=2, sampling="epochs",
                          steps=epochs * -(-len(data.train) // BATCH), statistics=(), progress=False,
                          initial=problem.random_start(2, size.chains))
        right = np.asarray(correct(problem, result.final.T.astype(np.float32)), np.float64)
        by_chain.append(right.mean(axis=0))
        by_image.append(right.mean(axis=1))
    return np.array(by_chain), np.array(by_image), result


def gain_of_negative(by_chain: np.ndarray, by_image: np.ndarray, gammas: np.ndarray) -> tuple[float, float, float]:
    """What the best negative weight decay gains over the best of all others, and its errors over runs and images.

    Both are chosen on the even chains and compared on the odd ones, so that choosing the best gains nothing.
    """
    score = by_chain[:, ::2].mean(axis=1)
    below, others = np.flatnonzero(gammas < 0), np.flatnonzero(gammas >= 0)
    a, b = below[score[below].argmax()], others[score[others].argmax()]
    difference = by_chain[a, 1::2] - by_chain[b, 1::2]
    images = by_image[a] - by_image[b]
    return (float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference))),
            float(images.std(ddof=1) / np.sqrt(len(images))))


@experiment("fig1_right", "Test accuracy of logistic regression over weight decay",
            "Strength of Minibatch Noise in SGD, figure 1 right (digits for MNIST)")  # fmt: skip
def fig1_right(scale: Scale, data: str | None = None) -> Findings:
    """Train logistic regression at lambda = 1.5, S = 32, and as a control slower for as many times longer."""
    size = SIZES[scale.name]
    images, gammas = digits(TRAIN, data), np.array(size.gammas)
    how_long = ((RATE, size.epochs), (RATE / size.slower, size.epochs * size.slower))
    runs = {f"λ = {rate:g}": (rate, epochs) for rate, epochs in how_long}
    found = {label: accuracies(images, *how, size) for label, how in runs.items()}
    curves = {label: Curve(gammas, by_chain.mean(axis=1), by_chain.std(axis=1, ddof=1) / np.sqrt(size.chains),
                           np.empty(0), {}) for label, (by_chain, _, _) in found.items()}
    best = {label: float(gammas[curve.simulated.argmax()]) for label, curve in curves.items()}
    gains = {label: gain_of_negative(*arrays[:2], gammas) for label, arrays in found.items()}
    fast, slow = runs

    def draw() -> Drawing:
        figure, ax = panels(1, 2, (9.0, 3.8))
        for axis, (label, curve) in zip(ax[0], curves.items(), strict=True):
            curve.scaled(100).draw(axis, xlabel="weight decay γ", ylabel="test accuracy (%)",
                                   title=f"{label}, {runs[label][1]} epochs", optimum=best[label])
            axis.lines[0].set_linestyle("-")
            axis.lines[0].set_linewidth(1.0)
            axis.set_xscale("symlog", linthresh=min(abs(g) for g in gammas if g))
            axis.set_xticks(gammas, [f"{g:g}" for g in gammas], rotation=60)
            axis.set_xticks([], minor=True)
        return figure

    def sentence(label: str) -> str:
        gain, over_runs, over_images = (100 * value for value in gains[label])
        return (f"{label}: best weight decay on the grid γ = {best[label]:g}; the best negative one gains {gain:+.2f} "
                f"± {over_runs:.2f} points (over runs; ± {over_images:.2f} over the {len(images.test)} test images) "
                "over the best of zero and above.")

    return Findings(
        verdicts=[
            Verdict(fast, claim("gain of negative weight decay (over runs)", *gains[fast][:2], 0.0, above=True,
                                error_rate=ERROR_RATE)),
        ],
        data={
            "gamma": (("gamma",), gammas),
            **{
                f"{name}_{key}": (("gamma",), values)
                for key, curve in (("fast", curves[fast]), ("slow", curves[slow]))
                for name, values in (("accuracy", curve.simulated), ("stderr", curve.stderr))
            },
        },
        figures=[
            Figure(
                "figure",
                "Accuracy on held-out digits over the strength of weight decay. Bars are 2 standard errors over runs. "
                "Right: a smaller learning rate for as many more steps.",
                draw,
            )
        ],
        summary=[
            sentence(fast),
            sentence(slow) + " Where this control prefers a negative one as well, the large learning rate is not what "
            "makes it best: training is not over yet, and negative decay lets the weights grow faster. With "
            "negative decay the loss has no minimum at all, so the optimum depends on when training stops.",
        ],
        tables=[
            Table(
                "Test accuracy",
                ["γ", *runs],
                [
                    [f"{g:g}", *(f"{100 * c.simulated[k]:.2f} ± {100 * c.stderr[k]:.2f}%" for c in curves.values())]
                    for k, g in enumerate(gammas)
                ],
            )
        ],
        provenance=short_provenance(found[fast][2], problem="logistic regression", training_images=len(images.train)),
    )
