"""From inputs to plain arrays: predictions and a short simulation. No page, no widgets."""

from __future__ import annotations

import dataclasses
import math
import time
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

from sgdsim._tail_index import TailIndex
from sgdsim.comparisons.comparison import UNDERPOWERED, Row
from sgdsim.comparisons.stationary import compare_one
from sgdsim.engine.simulate import simulate
from sgdsim.explore.inputs import Inputs
from sgdsim.plots.ellipses import ellipse
from sgdsim.solver.limits.stability import stability
from sgdsim.solver.predict import predict
from sgdsim.solver.prediction import Prediction
from sgdsim.solver.stationary.linearized import linearize
from sgdsim.solver.tails import tail

NAMES = ("exact", "hessian", "continuous")
MAX_STEPS, MAX_WORK = 2_000, 2**23  # steps, and steps times chains
_FEWEST = 400  # measured steps
_FORGET, _MEASURE = 8, 12  # relaxation times before and while measuring: the start is forgotten to exp(-8)
_BEYOND = (100, 400)  # burn-in and steps where there is nothing to settle to
_CLOUD = 1_000
# As shares of the limit: even on a logarithmic axis, then closing in on it.
_FRACTIONS = np.concatenate([np.geomspace(0.01, 0.5, 16), 1 - np.geomspace(0.45, 0.002, 22)])


class ShownLaw(NamedTuple):
    """One theory at one learning rate: covariance (2, 2), what is drawn over learning rates, ellipses (2, n)."""

    covariance: np.ndarray
    values: dict[str, float]
    ellipses: np.ndarray


class Theory(NamedTuple):
    """What is known before anything is simulated; `laws` is empty at and past the limit."""

    learning_rate: float
    limit: float
    deterministic: float
    laws: dict[str, ShownLaw]

    @property
    def fraction(self) -> float:
        """The learning rate in units of the mean-square limit."""
        return self.learning_rate / self.limit


class Curves(NamedTuple):
    """Values by theory and quantity over `learning_rates`, all below `limit`."""

    learning_rates: np.ndarray
    limit: float
    values: dict[str, dict[str, np.ndarray]]


class Simulated(NamedTuple):
    """What the chains did. `errors` are standard errors; NaN where there is none."""

    cloud: np.ndarray  # (n, 2) last positions
    ellipses: np.ndarray  # (2, n)
    values: dict[str, float]
    errors: dict[str, float]
    rows: dict[str, list[Row]]  # by theory; empty past the limit
    chains: int
    steps: int
    burn_in: int
    diverged: int
    seconds: float


def theory(inputs: Inputs) -> Theory:
    """The limits, and all three laws where they exist.

    Examples:
        >>> found = theory(Inputs(eigenvalues=(1.0, 1.0), batch_size=1, rate=0.25, unit="absolute"))
        >>> round(found.limit, 9), round(found.fraction, 9), sorted(found.laws)
        (0.5, 0.5, ['continuous', 'exact', 'hessian'])
    """
    limits = _limits(inputs.eigenvalues, inputs.momentum, inputs.batch_size)
    rate = inputs.rate * limits[0] if inputs.unit == "limit" else inputs.rate
    laws = {}
    if rate < limits[0]:
        laws = {name: _law(_prediction(inputs, rate, name)) for name in NAMES}
    return Theory(rate, *limits, laws)


def curves(inputs: Inputs) -> Curves:
    """The three theories at learning rates up to the limit; they depend on everything but the learning rate."""
    fixed = dataclasses.replace(inputs, rate=0.5, unit="limit", seed=0)
    return _curves(fixed)


def beyond(inputs: Inputs, learning_rate: float) -> str:
    """What is left at or past the mean-square limit, in words: the tail index, if there is a stationary law."""
    return tail.beyond(_tail_index(inputs, learning_rate))


def measure(inputs: Inputs, known: Theory) -> Simulated:
    """Simulate, and hold the result against each theory.

    The chains start at the minimum. How long they run follows from the slowest relaxation time of the second
    moments; where that exceeds what the page runs, the rows say that the theory is out of regime.
    """
    begun = time.perf_counter()
    rate = known.learning_rate
    predictions = {name: _prediction(inputs, rate, name) for name in known.laws}
    burn_in, steps = _BEYOND
    settled = ""
    if predictions:
        burn_in, steps, settled = duration(predictions["exact"].spectral_radius, inputs.chains)
    result = simulate(
        inputs.problem(), inputs.optimizer(rate), batch_size=inputs.batch_size, chains=inputs.chains, steps=steps,
        burn_in=burn_in, seed=inputs.seed, progress=False,
    )
    rows = {}
    if predictions:
        # the tail index is paid only where the kurtosis asks for it
        index = partial(_tail_index, inputs, rate)
        for name, law in predictions.items():
            rows[name] = compare_one(result, dataclasses.replace(law, tail_index=index, out_of_regime=settled)).rows
    covariance = np.asarray(result.covariance)
    last = np.asarray(result.final)
    return Simulated(
        cloud=last[np.isfinite(last).all(1)][:_CLOUD],
        ellipses=_ellipses(covariance),
        values={"test_loss": float(result.test_loss), "trace": float(np.trace(covariance))},
        errors={
            "test_loss": _error(result.test_loss_stderr, rows, "test_loss"),
            # The two variances are positively correlated: the sum of their errors is the largest that theirs can be.
            "trace": _error(np.trace(result.covariance_stderr), rows, "covariance"),
        },
        rows=rows,
        chains=inputs.chains,
        steps=steps,
        burn_in=burn_in,
        diverged=int(result.diverged),
        seconds=time.perf_counter() - begun,
    )


def duration(radius: float, chains: int) -> tuple[int, int, str]:
    """Burn-in, steps, and why that is too short (or ""), for second moments that relax by `radius` a step.

    Examples:
        >>> duration(0.9, 4096)
        (76, 476, '')
        >>> duration(0.9999, 4096)[:2]
        (1500, 2000)
    """
    relaxation = -1 / math.log(radius) if radius > 0 else 0.0
    most = min(MAX_STEPS, MAX_WORK // chains)
    wanted = math.ceil(_FORGET * relaxation)
    burn_in = min(wanted, most * 3 // 4)
    steps = min(burn_in + max(_FEWEST, math.ceil(_MEASURE * relaxation)), most)
    if wanted <= burn_in:
        return burn_in, steps, ""
    return burn_in, steps, (
        f"the second moments relax in {relaxation:,.0f} steps: forgetting the start takes more than the {burn_in:,} "
        "steps that this page waits (closer to half the limit, or with less unequal eigenvalues, it is faster)"
    )


def _error(stderr: float, rows: dict[str, list[Row]], quantity: str) -> float:
    """A standard error, or NaN where `compare` does not trust it or there is no second moment."""
    verdicts = {row.quantity.split("[")[0]: row.verdict for row in rows.get("exact", [])}
    return float(stderr) if verdicts.get(quantity, UNDERPOWERED) != UNDERPOWERED else math.nan


def _prediction(inputs: Inputs, rate: float, name: str) -> Prediction:
    return predict(inputs.problem(), inputs.optimizer(rate), batch_size=inputs.batch_size, approximation=name)


def _law(prediction: Prediction) -> ShownLaw:
    return ShownLaw(prediction.covariance, _values(prediction), _ellipses(prediction.covariance))


def _values(prediction: Prediction) -> dict[str, float]:
    return {"test_loss": float(prediction.test_loss), "trace": float(np.trace(prediction.covariance))}


def _ellipses(covariance: np.ndarray) -> np.ndarray:
    """The 1- and 2-sigma ellipses, one after the other with a gap; empty where the covariance is not finite."""
    if not np.isfinite(covariance).all():
        return np.zeros((2, 0))
    gap = np.full((2, 1), np.nan)
    return np.concatenate([ellipse(np.zeros(2), covariance, 1), gap, ellipse(np.zeros(2), covariance, 2)], axis=1)


@lru_cache(maxsize=256)
def _limits(eigenvalues: tuple[float, float], momentum: float, batch_size: int) -> tuple[float, float]:
    """The mean-square and the full-batch limit, neither of which knows the label noise."""
    asked = Inputs(eigenvalues, momentum=momentum, batch_size=batch_size)
    found = stability(asked.problem(), asked.optimizer(1.0), batch_size=batch_size)
    return found.max_learning_rate, found.deterministic


@lru_cache(maxsize=64)
def _curves(inputs: Inputs) -> Curves:
    limit = theory(inputs).limit
    rates = limit * _FRACTIONS
    found = {name: [_values(_prediction(inputs, rate, name)) for rate in rates] for name in NAMES}
    values = {
        name: {quantity: np.array([v[quantity] for v in column]) for quantity in column[0]}
        for name, column in found.items()
    }
    return Curves(rates, limit, values)


@lru_cache(maxsize=64)
def _tail_index(inputs: Inputs, learning_rate: float) -> TailIndex:
    setting = linearize(inputs.problem(), inputs.optimizer(learning_rate), inputs.batch_size, None)
    return tail.tail_index_of(setting, quick=True)
