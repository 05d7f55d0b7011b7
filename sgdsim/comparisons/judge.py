"""The verdict on one number that is no field of a `Result`."""

from __future__ import annotations

import math

from sgdsim.comparisons.comparison import (
    AGREE,
    DEFAULT_GROUPS,
    DISAGREE,
    POWER,
    UNDERPOWERED,
    Row,
    sidak_threshold,
)
from sgdsim.estimators.jackknife import MIN_GROUPS


def judge(
    quantity: str,
    simulated: float,
    stderr: float,
    predicted: float,
    *,
    error_rate: float = 0.01,
    groups: int = DEFAULT_GROUPS,
    note: str = "",
) -> Row:
    """Return the verdict on one number that is no field of a `Result`, by the rules of `compare`.

    Args:
        quantity: its name.
        simulated: measured value.
        stderr: its standard error.
        predicted: predicted value.
        error_rate: probability of "disagree" for a correct prediction.
        groups: number of independent groups behind the standard error.
        note: where given, the reason why the standard error is not known: the verdict is "underpowered".
    """
    difference = simulated - predicted
    relative = difference / abs(predicted) if predicted else (0.0 if difference == 0 else math.inf)
    z = 0.0 if difference == 0 else difference / stderr if stderr > 0 else math.inf
    threshold = sidak_threshold(error_rate, 1, groups - 1)
    if note or groups < MIN_GROUPS or not stderr <= POWER * abs(predicted):
        verdict = UNDERPOWERED
    else:
        verdict = AGREE if abs(z) <= threshold else DISAGREE
    return Row(quantity, simulated, stderr, predicted, z, relative, verdict, threshold, 1, note)
