"""Figure 3b: the gap between the accuracy on training images and that on distorted test images, by batch size."""

from __future__ import annotations

import math

import numpy as np
import scipy

from sgdsim.experiments.framework.findings import ERROR_RATE, Drawing, Figure, Findings, Scale, Verdict
from sgdsim.experiments.framework.networks import claim, digits
from sgdsim.experiments.framework.registry import experiment
from sgdsim.experiments.variance_of_gradients.digits import TRAINED, WIDTHS, stderr, three_layers, train
from sgdsim.experiments.variance_of_gradients.shared import PAPER
from sgdsim.plots import matched, panels

SIZES = (8, 32, 128)
RATE = 0.3
SIZE = {"smoke": (4, 6, 40), "laptop": (12, 16, 200), "full": (32, 32, 2_000)}  # starts, runs of each, epochs
ALPHA, SIGMA, SIDE = 8.0, 2.0, 28  # the paper's distortion, for MNIST's images; smaller ones have less of both


def distorted(images: np.ndarray, seed: int) -> np.ndarray:
    """Return square images, a row each, moved pixel by pixel along smooth random fields (Simard et al.)."""
    side = math.isqrt(images.shape[1])  # shifts, of size alpha/sigma, are the same part of it for all images
    alpha, sigma = ALPHA * (side / SIDE) ** 2, SIGMA * side / SIDE
    fields = np.random.default_rng(seed).uniform(-1, 1, (len(images), 2, side, side))
    shifts = alpha * scipy.ndimage.gaussian_filter(fields, (0, 0, sigma, sigma), mode="constant")
    here = np.indices((side, side))
    return np.stack([scipy.ndimage.map_coordinates(image.reshape(side, side), here + shift, order=1).ravel()
                     for image, shift in zip(images, shifts, strict=True)])


@experiment("variance_fig3b", "Accuracy gap on distorted test images by batch size (digits)",
            f"{PAPER}, figure 3b (MNIST there)")  # fmt: skip
def variance_fig3b(scale: Scale, data: str | None = None) -> Findings:
    """Train three layers many times from several starts; test on distorted images."""
    starts, runs, epochs = SIZE[scale.name]
    given = digits(TRAINED, data)
    images = given._replace(test=distorted(given.test, seed=8))
    problem = three_layers(WIDTHS["laptop"], images)
    begun = np.repeat(problem.random_start(seed=6, chains=starts), runs, axis=0)
    every = epochs // 10
    passed = np.arange(every, epochs + 1, every)
    gap = {}
    for b in SIZES:
        course = train(problem, begun, batch_size=b, runs=len(begun), steps=epochs * TRAINED // b,
                       every=every * TRAINED // b, seed=b, rate=RATE)
        gap[b] = (course.test_error - course.train_error).reshape(starts, runs, -1).mean(axis=1)
    first, last = min(SIZES), max(SIZES)
    rise = gap[last] - gap[first]  # of the same starts
    at_end, error = float(rise[:, -1].mean()), float(stderr(rise[:, -1]))
    ordered = [int(t) for t, *means in zip(passed, *(gap[b].mean(axis=0) for b in SIZES), strict=True)
               if all(np.diff(means) > 0)]

    def draw() -> Drawing:
        figure, ax = panels(1, 1, (6.4, 4.4))
        matched({f"b = {b}": (passed, gap[b].mean(axis=0)) for b in SIZES},
                {f"b = {b}": (passed, gap[b].mean(axis=0), stderr(gap[b])) for b in SIZES},
                ax=ax[0, 0], xlabel="epochs", ylabel="training less test accuracy", title="Distorted test images")
        return figure

    return Findings(
        verdicts=[Verdict(f"{epochs} epochs", claim(f"gap at b={last} less that at b={first}", at_end, error, 0.0,
                                                    above=True, error_rate=ERROR_RATE))],
        data={"epoch": (("epoch",), passed), "batch_size": (("batch_size",), np.array(SIZES)),
              "gap": (("batch_size", "start", "epoch"), np.stack([gap[b] for b in SIZES]))},
        figures=[Figure("figure", f"Accuracy on {TRAINED} training images less that on distorted test images: mean of "
                        f"{runs} runs from each of {starts} starts, learning rate {RATE:g}; bars: 2 standard errors "
                        "over starts, which all batch sizes share.", draw)],
        summary=[f"The gap at b = {last} less that at b = {first} is {100 * at_end:+.2f} ± {100 * error:.2f} points "
                 f"after {epochs} epochs (over starts); it rises with b throughout at epochs "
                 f"{', '.join(map(str, ordered)) or 'none'}.",
                 "Early a large batch, which has made fewer steps, has not fitted the training images yet. No theory: "
                 "the verdict is on the paper's claim."],
        provenance={"starts": starts, "runs": runs, "epochs": epochs, "learning_rate": RATE},
    )  # fmt: skip
