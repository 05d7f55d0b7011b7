"""Cut a run into segments: a deterministic list, so that the same seed gives the same bits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

SNAPSHOTS = 8
# About a second of work on two cores, or a few tenths on a GPU: the progress bar moves, float32 sums stay short.
CHUNK_NUMBERS = {"cpu": 2e8, "gpu": 1e10, "tpu": 1e10}
_MAX_ROUNDS = 4096


class Segment(NamedTuple):
    """`rounds` times: one step (measured if `measure`), then `inner` - 1 steps.

    Attributes:
        start: step at which it begins.
        rounds: how many rounds.
        inner: steps in a round.
        measure: whether the first step of each round is measured.
        half: 0 or 1, the half of the measured steps it belongs to.
        record: whether its only measurement goes to the time series.
        snapshot: whether chains are kept after it for the rank-normalised R-hat.
        counts: whether its measurements go to the totals.
    """

    start: int
    rounds: int
    inner: int
    measure: bool
    half: int
    record: bool
    snapshot: bool
    counts: bool = True

    @property
    def stop(self) -> int:
        """The step after its last."""
        return self.start + self.rounds * self.inner


def default_thin(measured_steps: int, dimension: int, loss_examples: int = 0) -> int:
    """Measure every 10th step (D x D products: every 3D/5-th), but 100 times at least (50 beyond 50 parameters).

    Successive steps are correlated anyway; measuring costs at most a quarter of stepping. Where a loss is a forward
    pass over `loss_examples` examples (networks), every tenth of as many steps, but 25 times at least.
    """
    if loss_examples:
        return max(1, min(max(10, dimension // 5, loss_examples // 10), measured_steps // 25))
    return max(1, min(max(10, 3 * dimension // 5), measured_steps // (50 if dimension > 50 else 100)))


def thin_across(thin: int, periods: Sequence[int] | None) -> int:
    """At least `thin`, so that all places of a period are met: without a common factor.

    Of an optax transformation no period is known (`MultiSteps` and `lookahead` have one): a prime, and not 2 or 5.
    """
    if periods is None:
        return next(p for p in itertools.count(thin) if p not in (2, 5) and all(p % k for k in range(2, p)))
    return next(t for t in itertools.count(thin) if math.gcd(t, math.prod(periods)) == 1)


def last_look(steps: int, burn_in: int, thin: int, periods: Sequence[int]) -> int:
    """The end of what is measured, so that each place of a period counts as often as the others, if there is time."""
    period, number = math.lcm(*periods), -(-(steps - burn_in) // thin)
    return burn_in + number // period * period * thin if period <= number else steps


def plan_segments(
    steps: int, burn_in: int, thin: int, measure: bool, record: list[int], numbers_per_step: int,
    looks: Sequence[int] = (), backend: str = "cpu", until: int | None = None,
) -> Iterator[Segment]:
    """Segments of a run of `steps`, in order.

    Args:
        steps: total number of steps.
        burn_in: steps before measuring starts.
        thin: steps from one measurement to the next.
        measure: whether there is anything to measure.
        record: sorted distinct steps below `steps` whose ensemble statistics are wanted.
        numbers_per_step: chains x parameters, which sets the length of a segment.
        looks: steps at which errors are looked at. A segment ends there, and what comes after the first is the
            second half: at each look, the halves are joined to be the first half of what comes.
        backend: sets the length of a segment too.
        until: where measuring ends. Measured steps are then `thin` apart from burn-in to there, whatever lies between;
            else each stretch begins with one.
    """
    window = steps - burn_in
    snapshots = {burn_in + window * k // SNAPSHOTS for k in range(1, SNAPSHOTS + 1)} - {burn_in}
    recorded = set(record)
    chunk = int(min(max(1, CHUNK_NUMBERS.get(backend, 2e8) / numbers_per_step / thin), _MAX_ROUNDS)) * thin
    ends = {0, burn_in, steps, *snapshots, *looks, *recorded, *(t + 1 for t in recorded)}
    edges = sorted(ends if until is None else {*ends, min(until, steps)})
    for begin, end in itertools.pairwise(edges):
        measured = measure and burn_in <= begin < (steps if until is None else until)
        half = int(begin >= looks[0] if looks else 2 * (begin - burn_in) >= window)
        if begin in recorded:
            due = until is not None and burn_in <= begin < until and (begin - burn_in) % thin == 0
            yield Segment(begin, 1, 1, True, half, True, measure and end in snapshots, due)
            continue
        shown = measure and end in snapshots
        gap = min((burn_in - begin) % thin, end - begin) if until is not None and begin > burn_in else 0
        if gap:
            yield Segment(begin, gap, 1, False, half, False, shown and begin + gap == end)
        for start in range(begin + gap, end, chunk):
            stop = min(start + chunk, end)
            rounds, rest = divmod(stop - start, thin)
            last = shown and stop == end
            if rounds:
                yield Segment(start, rounds, thin, measured, half, False, last and not rest)
            if rest and until is None:
                yield Segment(stop - rest, rest, 1, False, half, False, last)
            elif rest:  # its first step is due
                yield Segment(stop - rest, 1, rest, measured, half, False, last)
