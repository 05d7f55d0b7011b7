"""What the figures of this paper share: its title, its learning rate and its table."""

from __future__ import annotations

from sgdsim.experiments.framework.load_table import load
from sgdsim.problems import DatasetRegression

PAPER = "The Impact of the Mini-batch Size on the Variance of Gradients"


def halving(t: int) -> float:
    """Return the paper's 1/(2t), which starts at t = 1."""
    return 1 / (2 * (t + 1))


def diabetes() -> DatasetRegression:
    """Return scikit-learn's diabetes table: 442 rows, standardised, intercept last."""
    frame, target, _ = load("diabetes", None)
    return DatasetRegression.from_table(frame, target=target, standardize_columns=True, intercept=True)
