"""Figure 1, left: variance of the training loss over the width of a network under SGD."""

from __future__ import annotations

from sgdsim.experiments.framework.findings import Findings, Scale
from sgdsim.experiments.framework.registry import experiment
from sgdsim.experiments.minibatch_noise.widths import over_widths
from sgdsim.optimizers import SGD


@experiment("fig1_left", "Variance of the training loss over width, SGD",
            "Strength of Minibatch Noise in SGD, figure 1 left (digits for MNIST)")  # fmt: skip
def fig1_left(scale: Scale, data: str | None = None) -> Findings:
    """Train two-layer tanh networks for one epoch at lambda = 0.5 and at lambda proportional to 1/width."""
    return over_widths(scale, SGD, 0.5, "SGD", data)
