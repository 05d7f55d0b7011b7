"""What the figures of this paper share: its title, its learning rate and its table."""

from __future__ import annotations

from collections.abc import Sequence

from sgdsim import _checks
from sgdsim.experiments.framework.load_table import DIABETES, load
from sgdsim.problems import DatasetRegression

PAPER = "The Impact of the Mini-batch Size on the Variance of Gradients"


def halving(t: int) -> float:
    """Return the paper's 1/(2t), which starts at t = 1."""
    return 1 / (2 * (t + 1))


def regression(
    table: str = DIABETES, target: str | None = None, sizes: Sequence[int] = ()
) -> tuple[DatasetRegression, str, list[int]]:
    """Return a table as a problem, standardised, intercept last; its name; and those of the batch sizes it allows.

    Raises:
        ValueError: the table cannot be read, or allows fewer than two of the sizes.
    """
    frame, column, name = load(table, target)
    problem = DatasetRegression.from_table(frame, target=column, standardize_columns=True, intercept=True)
    allowed = [b for b in sizes if b <= problem.n_examples]
    if len(allowed) < 2 <= len(sizes):
        raise _checks.error("table", table, f"of at least {sorted(sizes)[1]} rows (got {problem.n_examples})",
                            "try `sgdsim analyze`")
    return problem, name, allowed
