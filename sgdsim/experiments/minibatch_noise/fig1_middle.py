"""Figure 1, middle: variance of the training loss over the width of a network under Adam."""

from __future__ import annotations

from sgdsim.experiments.framework.findings import Findings, Scale
from sgdsim.experiments.framework.registry import experiment
from sgdsim.experiments.minibatch_noise.widths import over_widths
from sgdsim.optimizers import Adam


@experiment("fig1_middle", "Variance of the training loss over width, Adam",
            "Strength of Minibatch Noise in SGD, figure 1 middle (digits for MNIST; the paper gives no rate for Adam)")
def fig1_middle(scale: Scale, data: str | None = None) -> Findings:
    """Train two-layer tanh networks for one epoch at lambda = 0.1 and at lambda proportional to 1/width."""
    return over_widths(scale, Adam, 0.1, "Adam", data)
