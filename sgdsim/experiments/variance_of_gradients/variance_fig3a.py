"""Figure 3a: the variance of a network's gradient at two batch sizes, from several starts."""

from __future__ import annotations

import numpy as np

from sgdsim.engine import gradient_variance
from sgdsim.experiments.framework.findings import ERROR_RATE, Drawing, Figure, Findings, Scale, Verdict
from sgdsim.experiments.framework.measure import short_provenance
from sgdsim.experiments.framework.networks import claim, digits
from sgdsim.experiments.framework.registry import experiment
from sgdsim.experiments.variance_of_gradients.digits import RATE, TRAINED, WIDTHS, three_layers
from sgdsim.experiments.variance_of_gradients.shared import PAPER
from sgdsim.optimizers import SGD
from sgdsim.plots import matched, panels

SIZES = (64, 128)
# Starts, runs, steps, and from one measured step to the next: no multiple of 8, so that every part of a pass is seen.
SIZE = {"smoke": (3, 48, 25, 1), "laptop": (5, 100, 401, 5), "full": (5, 500, 2_001, 25)}


@experiment("variance_fig3a", "Variance of a network's gradient: batch size against the start (digits)",
            f"{PAPER}, figure 3a (MNIST there)")  # fmt: skip
def variance_fig3a(scale: Scale, data: str | None = None) -> Findings:
    """Train three layers in shuffled passes from several random starts, at b = 64 and b = 128."""
    starts, runs, steps, every = SIZE[scale.name]
    problem = three_layers(WIDTHS[scale.name], digits(TRAINED, data))
    results = [
        gradient_variance(problem, SGD(RATE), batch_size=list(SIZES), steps=steps, chains=runs, initial=start, seed=k,
                          sampling="epochs", record=every, progress=False)
        for k, start in enumerate(problem.random_start(seed=5, chains=starts))
    ]  # fmt: skip
    value = np.stack([result.gradient for result in results])  # start, measured step, batch size
    error = np.stack([result.gradient_stderr for result in results])
    t = results[0].step
    checked = np.unique(np.linspace(0, len(t) - 1, 4).astype(int))
    verdicts = [
        Verdict(f"start {k}, t={t[i]}", claim("Var g at b=64 less that at b=128", value[k, i, 0] - value[k, i, 1],
                                              float(np.hypot(*error[k, i])), 0.0, above=True,
                                              error_rate=ERROR_RATE / (starts * len(checked))))
        for k in range(starts) for i in checked
    ]  # fmt: skip
    apart = float(np.mean(value[:, :, 0].min(axis=0) > value[:, :, 1].max(axis=0)))
    smaller = float(np.mean(value[:, :, 0] > value[:, :, 1]))
    middle, low, high = np.median(value, axis=0), value.min(axis=0), value.max(axis=0)

    def draw() -> Drawing:
        figure, ax = panels(1, 1, (6.4, 4.4))
        matched(
            {f"b = {b}": (t, middle[:, j]) for j, b in enumerate(SIZES)}, {},
            bands={f"b = {b}": (t, low[:, j], high[:, j]) for j, b in enumerate(SIZES)},
            ax=ax[0, 0], xlabel="step t", ylabel="Var g", title=f"Median and range over {starts} starts", log="y",
        )  # fmt: skip
        return figure

    dims = ("start", "step", "batch_size")
    return Findings(
        verdicts=verdicts,
        data={"start": (("start",), np.arange(starts)), "step": (("step",), t),
              "batch_size": (("batch_size",), np.array(SIZES)), "gradient": (dims, value),
              "gradient_stderr": (dims, error)},
        figures=[Figure("figure", f"Shuffled passes over {TRAINED} digits, learning rate {RATE:g}, {runs} runs from "
                        f"each start, {len(t)} of {steps} steps measured. Shaded: smallest to largest over the starts. "
                        "Dips: the first batch of a pass.", draw)],
        summary=[
            f"At equal steps the variance at b = 64 exceeds that at b = 128 at {smaller:.1%} of all (start, step).",
            f"The smallest over {starts} starts at b = 64 exceeds the largest at b = 128 at {apart:.1%} of the steps"
            + (": elsewhere the start matters as much as the batch size." if apart < 1 else "."),
            f"A network of widths {WIDTHS[scale.name]} on digits stands for 1024 and 512 on MNIST; no theory here.",
        ],
        provenance=short_provenance(results[0], widths=WIDTHS[scale.name], learning_rate=RATE, starts=starts),
    )  # fmt: skip
