"""Passes over a tiny data set without replacement: exact variances where no recursion closes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import factorial, prod
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import as_matrix
from sgdsim.optimizers.base import Optimizer
from sgdsim.problems import DatasetRegression
from sgdsim.solver.variance.arguments import batch_sizes_of, learning_rates, start_of
from sgdsim.solver.variance.recursion import GradientVariance

_MOST_EXAMPLES = 12
_MOST_ORDERS = 500_000


def epoch_gradient_variance(
    problem: DatasetRegression,
    optimizer: Optimizer,
    *,
    batch_size: int | Sequence[int],
    steps: int,
    initial: ArrayLike | None = None,
    reshuffle: bool = True,
) -> GradientVariance:
    r"""The variances of `gradient_variance` when every pass uses each example once; exact for n <= 12.

    An epoch has ceil(n/b) steps; its last batch holds the examples that remain. With `reshuffle` the order is new in
    every epoch: with U the set of examples used so far in this epoch and z = (w, 1), the recursion is over

    $$S_U = E[z z^\top; U], \qquad
      S_{U \cup B} \mathrel{+}= \binom{n - |U|}{|B|}^{-1} M_B S_U M_B^\top, \quad z \mapsto M_B z .$$

    Without, one random partition into batches is scanned in the same order for ever: all of them are enumerated.
    Batches of one epoch are dependent and the gradient given the past is biased, so the variance may RISE with b.

    Args:
        problem: a DatasetRegression with at most 12 examples.
        optimizer: SGD without momentum and preconditioner; its rate alpha may be a schedule, called with t = 0, 1, ...
        batch_size: one or several different b, 1 to n.
        steps: rows of the result.
        initial: the start, (D,); None means the problem's default start.
        reshuffle: whether each epoch has its own order.

    Raises:
        ValueError: an argument is out of range, there are more than 12 examples, or, without `reshuffle`, more than
            500,000 partitions.
        NotImplementedError: another problem or optimizer; label noise without `reshuffle`.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.DatasetRegression([[1.0], [2.0]], [1.0, 0.0])
        >>> how = {"batch_size": 1, "steps": 3, "initial": [1.0]}
        >>> exact = ss.solver.variance.epoch_gradient_variance(problem, ss.SGD(0.1), **how)
        >>> exact.gradient[:, 0].round(6).tolist()
        [4.0, 4.84, 2.0483]

    Source: theory sheet section 1.
    """
    if not isinstance(problem, DatasetRegression):
        raise NotImplementedError(f"epochs need a finite data set: DatasetRegression, not {type(problem).__name__}")
    steps = _checks.integer("steps", steps)
    sizes, _ = batch_sizes_of(problem, batch_size, "epochs")
    n = problem.n_examples
    if n > _MOST_EXAMPLES:
        raise _checks.error("problem", problem, f"of at most {_MOST_EXAMPLES} examples (it has {n})",
                            "the recursion is over all sets of examples: simulate with sampling='epochs'")
    if not reshuffle and problem.label_noise:
        raise NotImplementedError("label noise with reshuffle=False: enumerating orders leaves the noise out")
    rates = [float(rate) for rate in learning_rates(optimizer, problem, steps)]
    start = start_of(problem, initial)
    run = _over_sets if reshuffle else _over_partitions
    tables = np.array([run(problem, rates, start, b) for b in sizes])
    gradient, full, loss = (np.ascontiguousarray(table.T) for table in np.moveaxis(tables, 1, 0))
    return GradientVariance(np.maximum(gradient, 0.0), np.maximum(full, 0.0), loss, tuple(sizes))


class Moves(NamedTuple):
    """All ways to draw one batch from the examples not used yet."""

    before: np.ndarray  # index of the set U among those of its size
    batch: np.ndarray  # (moves, |B|) examples
    after: np.ndarray  # index of U + B among the sets of its size
    chance: float  # 1 / binom(n - |U|, |B|)


@lru_cache(maxsize=128)
def _moves(n: int, used: int, size: int) -> Moves:
    index = {chosen: at for at, chosen in enumerate(itertools.combinations(range(n), used + size))}
    before, batches, after = [], [], []
    for at, chosen in enumerate(itertools.combinations(range(n), used)):
        rest = [example for example in range(n) if example not in chosen]
        for batch in itertools.combinations(rest, size):
            before.append(at)
            batches.append(batch)
            after.append(index[tuple(sorted(chosen + batch))])
    each = len(before) // (before[-1] + 1)
    return Moves(np.array(before), np.array(batches), np.array(after), 1 / each)


def _over_sets(problem: DatasetRegression, rates: list[float], start: np.ndarray, b: int) -> np.ndarray:
    """Rows Var g, Var full gradient, E L for one batch size with reshuffling, (3, steps)."""
    n, dimension = problem.n_examples, problem.dimension
    z = np.append(start, 1.0)
    second, used = np.outer(z, z)[None], 0
    out = np.empty((3, len(rates)))
    for t, rate in enumerate(rates):
        size = min(b, n - used)
        moves = _moves(n, used, size)
        gradient, label = _batch_gradients(problem, moves.batch)
        from_sets = second[moves.before] * moves.chance
        mean = np.einsum("tij,tj->i", gradient, from_sets[:, :, -1])
        weights = from_sets[:, -1, -1]
        squares = np.einsum("tij,tjk,tik->", gradient, from_sets, gradient, optimize=True)
        out[0, t] = squares + weights @ np.trace(label, axis1=1, axis2=2) - mean @ mean
        out[1:, t] = _of_whole(problem, second.sum(axis=0))
        update = np.tile(np.eye(dimension + 1), (len(gradient), 1, 1))
        update[:, :dimension] -= rate * gradient
        moved = update @ from_sets @ update.swapaxes(1, 2)
        moved[:, :dimension, :dimension] += rate**2 * weights[:, None, None] * label
        second = np.zeros((moves.after.max() + 1, dimension + 1, dimension + 1))
        np.add.at(second, moves.after, moved)
        used = (used + size) % n
    return out


def _batch_gradients(problem: DatasetRegression, batches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(X'X/b + Gamma, -X'y/b), acting on (w, 1), and the covariance of fresh label noise, for each batch."""
    x, y = problem.features[batches], problem.targets[batches]
    size = batches.shape[1]
    gram = np.einsum("tbi,tbj->tij", x, x) / size
    pull = np.einsum("tbi,tb->ti", x, y) / size
    decay = as_matrix(problem.weight_decay, problem.dimension)
    return np.concatenate([gram + decay, -pull[:, :, None]], axis=2), problem.label_noise**2 / size * gram


def _of_whole(problem: DatasetRegression, second: np.ndarray) -> tuple[float, float]:
    """Var of the full gradient and E L from E[z z']."""
    mean = second[:-1, -1]
    covariance = second[:-1, :-1] - np.outer(mean, mean)
    hessian = problem.hessian()
    return float(np.trace(hessian @ covariance @ hessian)), float(problem.loss(mean) + np.sum(hessian * covariance) / 2)


def _over_partitions(problem: DatasetRegression, rates: list[float], start: np.ndarray, b: int) -> np.ndarray:
    """The same for one partition scanned again and again, averaged over all ordered partitions."""
    n = problem.n_examples
    cuts = [(low, min(low + b, n)) for low in range(0, n, b)]
    orders = factorial(n) // prod(factorial(high - low) for low, high in cuts)
    if orders > _MOST_ORDERS:
        raise _checks.error("batch_size", b, f"such that there are at most {_MOST_ORDERS} ordered partitions "
                            f"(n = {n} gives {orders})", "use fewer examples or larger batches, or simulate it")
    partitions = np.array(list(_ordered_partitions(tuple(range(n)), b)))
    decay = as_matrix(problem.weight_decay, problem.dimension)
    w = np.tile(start, (len(partitions), 1))
    out = np.empty((3, len(rates)))
    for t, rate in enumerate(rates):
        low, high = cuts[t % len(cuts)]
        batch = partitions[:, low:high]
        x = problem.features[batch]
        errors = np.einsum("tbi,ti->tb", x, w) - problem.targets[batch]
        gradient = np.einsum("tbi,tb->ti", x, errors) / (high - low) + w @ decay
        out[0, t] = gradient.var(axis=0).sum()
        out[1, t] = problem.gradient(w.T).var(axis=1).sum()
        out[2, t] = problem.loss(w.T).mean()
        w = w - rate * gradient
    return out


def _ordered_partitions(examples: tuple[int, ...], size: int) -> Iterator[tuple[int, ...]]:
    """All orders of batches, the examples of each in rising order, one after the other."""
    if not examples:
        yield ()
        return
    for batch in itertools.combinations(examples, min(size, len(examples))):
        rest = tuple(example for example in examples if example not in batch)
        for later in _ordered_partitions(rest, size):
            yield batch + later
