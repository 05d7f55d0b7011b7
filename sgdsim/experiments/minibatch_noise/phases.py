"""What simulated chains do at one setting, decided from the simulation alone."""

from __future__ import annotations

import numpy as np

from sgdsim.problems import DatasetRegression, LinearRegression

UNDECIDED = "undecided"
STEPS, SURE = 45, 4.0


def classify(
    problem: LinearRegression | DatasetRegression, rate: float, batch_size: int, *, chains: int, seed: int
) -> str:
    """Tell finite variance, infinite variance and divergence apart by following differences of chains.

    Two copies of SGD that see the same batches differ by d <- M d. From many chains, each of independent batches:
    the mean of ln|d| over n steps says whether chains come together; the growth of the mean of |d|^2 says
    whether the variance is finite. A mean of |d|^2 that a few chains carry is not believed.

    Args:
        problem: a LinearRegression in one dimension or a DatasetRegression.
        rate: the learning rate.
        batch_size: S.
        chains: how many.
        seed: of the random numbers.

    Returns:
        "finite variance", "infinite variance", "diverges", or "undecided" where the answer is within 4 standard errors.
    """
    rng = np.random.default_rng([seed, int(1e6 * rate)])
    difference = rng.standard_normal((chains, problem.dimension))
    difference /= np.linalg.norm(difference, axis=1, keepdims=True)
    total = np.zeros(chains)
    growth = []  # the mean of |M v|^2 in one step of a population kept by its squares, and its error
    square = difference.copy()
    for step in range(STEPS):
        difference, size = _step(problem, difference, rate, batch_size, rng)
        square, growing = _step(problem, square, rate, batch_size, rng)
        weight = growing**2
        places = (np.arange(chains) + rng.random()) / chains
        square = square[np.minimum(np.searchsorted(np.cumsum(weight) / weight.sum(), places), chains - 1)]
        if step >= STEPS // 3:
            total += np.log(np.maximum(size, 1e-300))
            growth.append((weight.mean(), weight.std() / np.sqrt(chains)))
    drift, error = total.mean(), total.std() / np.sqrt(chains)
    if abs(drift) < SURE * error:
        return UNDECIDED
    if drift > 0:
        return "diverges"
    mean, stderr = np.array(growth).T
    change, doubt = np.log(mean).sum(), float(np.sqrt(np.sum((stderr / mean) ** 2)))
    if abs(change) < SURE * doubt:
        return UNDECIDED
    return "infinite variance" if change > 0 else "finite variance"


def _step(
    problem: LinearRegression | DatasetRegression, v: np.ndarray, rate: float, batch_size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """M v of unit length for each chain, and how long it was."""
    new = v - rate * _pull(problem, v, batch_size, rng)
    norm = np.linalg.norm(new, axis=1)
    return new / np.maximum(norm, 1e-300)[:, None], norm


def _pull(
    problem: LinearRegression | DatasetRegression, v: np.ndarray, b: int, rng: np.random.Generator
) -> np.ndarray:
    """X_B' X_B v / S for a batch a chain, row by row."""
    chains, dimension = v.shape
    if isinstance(problem, LinearRegression):
        x = rng.standard_normal((chains, b, dimension)) * np.sqrt(np.asarray(problem.covariance))
    else:
        x = problem.features[rng.integers(problem.n_examples, size=(chains, b))]
    return np.einsum("cbd,cb->cd", x, np.einsum("cbd,cd->cb", x, v)) / b
