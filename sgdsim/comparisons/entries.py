"""The verdict on one quantity, entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sgdsim.comparisons.comparison import AGREE, DISAGREE, OUT, POWER, UNDERPOWERED, Row, sidak_threshold
from sgdsim.estimators.jackknife import MIN_GROUPS

_SYMMETRIC = 1e-6  # relative: sums of products may differ by their rounding


class Held(NamedTuple):
    """A measured quantity and what it is held against, as arrays of one shape.

    Attributes:
        name: of the quantity, without the index of an entry.
        simulated: what was measured.
        stderr: its standard error.
        predicted: what the theory says.
        scale: what a standard error has to be small against.
        rounding: how far rounding errors of the chains alone can move each entry.
        theory_error: the share of the scale by which the theory may be off, as it says itself.
        places: index of each entry in the quantity, shape (*shape, axes).
        second_moment: whether the standard error rests on a fourth moment.
    """

    name: str
    simulated: np.ndarray
    stderr: np.ndarray
    predicted: np.ndarray
    scale: np.ndarray
    rounding: np.ndarray
    theory_error: float
    places: np.ndarray
    second_moment: bool

    def resolution(self, threshold: float) -> np.ndarray:
        """How far from the truth a prediction of each entry must be to be told from it."""
        return threshold * np.hypot(self.stderr, self.rounding)


class Circumstances(NamedTuple):
    """What the verdicts on all quantities of a result have in common.

    Attributes:
        groups: independent groups of chains behind the standard errors.
        regime: why the result is not what the theory speaks of, or "".
        heavy: why standard errors of second moments are not to be trusted, or "".
        rounds_away: what is said where rounding hides the answer.
        not_settled: of a scale and a standard error, why a difference may be what the start left behind, or "".
    """

    groups: int
    regime: str
    heavy: str
    rounds_away: str
    not_settled: Callable[[float, float], str]


def judge_entries(held: Held, at: Circumstances, level: float) -> tuple[Row, np.ndarray]:
    """The row of a quantity, and z of all its entries; `level` is the chance of "disagree" for a right theory."""
    simulated, stderr, predicted, scale, rounding = held[1:6]
    difference = simulated - predicted
    beyond = np.sign(difference) * np.maximum(np.abs(difference) - held.theory_error * scale, 0)
    zero = scale == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        z = beyond / np.hypot(stderr, rounding)
        relative = np.where(scale > 0, difference / scale, np.where(difference == 0, 0.0, np.inf))
        noisy = ~(stderr <= POWER * scale)
        weak = noisy | ~(rounding <= POWER * scale)
    z = np.where(beyond == 0, 0.0, z)
    told_twice = _is_symmetric(simulated, scale) and _is_symmetric(predicted, scale)
    upper = np.triu(np.ones(z.shape, bool)) if told_twice else np.ones(z.shape, bool)
    distinct = int(upper.sum())
    threshold = sidak_threshold(level, distinct, at.groups - 1)
    shown = np.where(upper, np.abs(np.nan_to_num(z, nan=np.inf, posinf=np.inf, neginf=np.inf)), -1.0)
    where = np.unravel_index(int(shown.argmax()), z.shape)
    weak = weak & ~zero & upper
    if weak.any() and not weak[where]:  # show an entry that made the row underpowered
        masked = np.where(weak, np.hypot(stderr, rounding) / np.where(scale > 0, scale, 1.0), -1.0)
        where = np.unravel_index(int(np.nan_to_num(masked, nan=np.inf).argmax()), z.shape)

    note = ""
    if at.regime:
        verdict, note = OUT, at.regime
    elif at.groups < MIN_GROUPS:
        verdict, note = UNDERPOWERED, f"{at.groups} groups of chains, fewer than {MIN_GROUPS}: run more chains"
    elif (weak & noisy).any():
        verdict, note = UNDERPOWERED, f"standard error above {POWER:.0%} of scale: run more chains or steps"
    elif weak.any():
        verdict, note = UNDERPOWERED, at.rounds_away
    elif held.second_moment and not zero.all() and at.heavy:
        verdict, note = UNDERPOWERED, at.heavy
    else:
        verdict = AGREE if shown.max() <= threshold else DISAGREE
        note = "nothing varies here; judged by rounding error" if zero.all() else ""
        if verdict == DISAGREE and (reason := at.not_settled(float(scale[where]), float(stderr[where]))):
            verdict, note = OUT, reason
    place = held.places[where]
    name = held.name + (f"[{','.join(str(int(i)) for i in place)}]" if place.size else "")
    row = Row(name, float(simulated[where]), float(stderr[where]), float(predicted[where]), float(z[where]),
              float(relative[where]), verdict, threshold, distinct, note)
    return row, z


def _is_symmetric(matrix: np.ndarray, scale: np.ndarray) -> bool:
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    with np.errstate(invalid="ignore"):
        return square and bool(np.all(np.abs(matrix - matrix.T) <= _SYMMETRIC * scale))
