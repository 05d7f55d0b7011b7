"""Figure 4: expected loss and error of a network over training, by batch size."""

from __future__ import annotations

import numpy as np

from sgdsim.experiments.framework.findings import ERROR_RATE, Drawing, Figure, Findings, Scale, Table, Verdict
from sgdsim.experiments.framework.networks import claim, digits
from sgdsim.experiments.framework.registry import experiment
from sgdsim.experiments.variance_of_gradients.digits import (
    RATE,
    TRAINED,
    WIDTHS,
    Course,
    stderr,
    three_layers,
    train,
)
from sgdsim.experiments.variance_of_gradients.shared import PAPER
from sgdsim.plots import matched, panels

SIZES = (16, 64, 256)
# Runs, steps, and steps from one look to the next: a look costs as much as several steps.
SIZE = {"smoke": (24, 256, 4), "laptop": (100, 3_200, 20), "full": (200, 64_000, 80)}
EARLY, LATE = 240, 1_000  # steps: the training digits are fitted in between


@experiment("variance_fig4", "Expected loss and error of a network by batch size (digits)",
            f"{PAPER}, figure 4 (MNIST there)")  # fmt: skip
def variance_fig4(scale: Scale, data: str | None = None) -> Findings:
    """Train three layers many times from one start; compare batch sizes at equal steps and at equal epochs."""
    runs, steps, every = SIZE[scale.name]
    problem = three_layers(WIDTHS[scale.name], digits(TRAINED, data))
    start = problem.random_start(seed=6, chains=1)[0]
    courses = {b: train(problem, start, batch_size=b, runs=runs, steps=steps, every=every, seed=b) for b in SIZES}
    done = np.arange(every, steps + 1, every)
    passes = steps * min(SIZES) / TRAINED  # every batch size gets so far
    ends = {b: int(passes * TRAINED / b / every) - 1 for b in SIZES}
    first, last = min(SIZES), max(SIZES)
    share = ERROR_RATE / 3
    early = int(np.flatnonzero(done == EARLY)[0])
    at_early = _difference(courses[first], courses[last], early, early)
    at_steps = _difference(courses[first], courses[last], len(done) - 1, len(done) - 1)
    ahead = done[(courses[first].train_loss.mean(axis=0) < courses[last].train_loss.mean(axis=0)) & (done > EARLY)]
    at_epochs = _difference(courses[first], courses[last], ends[first], ends[last])
    rows = [
        [str(b), *(f"{getattr(courses[b], name)[:, at].mean():.4g} ± {stderr(getattr(courses[b], name)[:, at]):.1g}"
                   for at in (len(done) - 1, ends[b]) for name in Course._fields)]
        for b in SIZES
    ]  # fmt: skip

    def draw() -> Drawing:
        figure, ax = panels(2, 2, (10.0, 7.2))
        rows = (("train_loss", "test_loss", "loss"), ("train_error", "test_error", "error"))
        for i, (seen, held, label) in enumerate(rows):
            for axis, epochs in zip(ax[i], (False, True), strict=True):
                kept = {b: slice(0, ends[b] + 1) if epochs else slice(None) for b in SIZES}
                unit = {b: b / TRAINED if epochs else 1.0 for b in SIZES}
                marks = {b: np.unique(np.linspace(0, len(done[kept[b]]) - 1, 10).astype(int)) for b in SIZES}
                means = {b: getattr(courses[b], seen).mean(axis=0)[kept[b]] for b in SIZES}
                positive = {b: np.where(means[b] > 0, means[b], np.nan) for b in SIZES}  # an error of 0 is not drawn
                matched(
                    {f"b = {b}": (done[kept[b]] * unit[b], positive[b]) for b in SIZES},
                    {f"b = {b}": (done[marks[b]] * unit[b], getattr(courses[b], held)[:, marks[b]].mean(axis=0),
                                  stderr(getattr(courses[b], held)[:, marks[b]])) for b in SIZES},
                    ax=axis, xlabel="epochs" if epochs else "steps",
                    title=f"At equal {'epochs' if epochs else 'steps'}",
                    ylabel=f"expected {label} (points: validation)", log="y",
                )  # fmt: skip
        return figure

    return Findings(
        verdicts=[
            Verdict(f"equal steps, t={EARLY}", claim(f"training loss, b={first} less b={last}", *at_early, 0.0,
                                                     above=True, error_rate=share)),
            *([Verdict(f"equal steps, t={steps}", claim(f"training loss, b={first} less b={last}", *at_steps, 0.0,
                                                        above=False, error_rate=share))] if steps >= LATE else []),
            Verdict("equal epochs", claim(f"training loss, b={first} less b={last}", *at_epochs, 0.0, above=False,
                                          error_rate=share)),
        ],
        data={"step": (("step",), done), "batch_size": (("batch_size",), np.array(SIZES)),
              **{name: (("batch_size", "step"), np.stack([getattr(courses[b], name).mean(axis=0) for b in SIZES]))
                 for name in Course._fields}},
        figures=[Figure("figure", f"Mean of {runs} runs from one start, learning rate {RATE:g}. Lines: {TRAINED} "
                        "training digits. Points: validation digits, with 2 standard errors.", draw)],
        summary=[
            f"Training loss at b = {first} less that at b = {last}: {at_early[0]:+.3g} ± {at_early[1]:.1g} after "
            f"{EARLY} equal steps, {at_steps[0]:+.3g} ± {at_steps[1]:.1g} after {steps}, "
            f"{at_epochs[0]:+.3g} ± {at_epochs[1]:.1g} after equal epochs ({passes:g}).",
            "The paper calls the training loss a decreasing function of b. At one learning rate that is a statement "
            "about equal steps; at equal epochs small batches have made more steps and are ahead.",
            *([f"At equal steps it holds until step {ahead[0]}, when all training digits are about to be fitted; from "
               "there on the small batch is ahead."] if len(ahead) else []),
            "No theory: the verdicts are on these claims.",
        ],
        tables=[Table("At the end (first equal steps, then equal epochs)",
                      ["b", *(f"{name.replace('_', ' ')}, {unit}" for unit in ("steps", "epochs")
                              for name in Course._fields)], rows)],
        provenance={"runs": runs, "steps": steps, "learning_rate": RATE, "widths": WIDTHS[scale.name]},
    )  # fmt: skip


def _difference(a: Course, b: Course, at_a: int, at_b: int) -> tuple[float, float]:
    """Mean training loss of a less that of b, and its standard error."""
    x, y = a.train_loss[:, at_a], b.train_loss[:, at_b]
    return float(x.mean() - y.mean()), float(np.hypot(stderr(x), stderr(y)))
