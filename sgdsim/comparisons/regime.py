"""Where a result and a prediction may be held against each other: settled, of one configuration, with light tails."""

from __future__ import annotations

import math

import jax
import numpy as np

from sgdsim.comparisons.comparison import POWER
from sgdsim.estimators.tail_index import MIN_SAMPLES
from sgdsim.results.result import Result
from sgdsim.solver.prediction import Prediction

SUSPECT = 4.0  # a kurtosis above it asks for the tail index
FOURTH = 4.0  # moments of this order do not exist at or below this tail index
CLEARLY = 1.5  # times that index: then the measured one is enough
MAX_RHAT = 1.05
_BRIEF = 60  # characters of a description in a note


def heavy_tails(result: Result, prediction: Prediction | None = None) -> str:
    """Return why the standard errors of second moments are not to be trusted, or "".

    They rest on the fourth moment. It must be measured to 10%, and where the kurtosis is above 4 it must
    exist: by all of the interval of the measured tail index where that is far from 4, else by the prediction's, or,
    if it knows none, by the measured one after all.
    """
    if result.kurtosis is None or result.kurtosis_stderr is None:
        return ""
    kurtosis = np.atleast_1d(np.asarray(result.kurtosis, np.float64))
    error = np.atleast_1d(np.asarray(result.kurtosis_stderr, np.float64))
    varies = np.ones(1, bool)
    if (covariance := getattr(result, "covariance", None)) is not None:
        varies = np.diag(np.atleast_2d(np.asarray(covariance))) > 0
    if np.any(varies & ~(error <= POWER * kurtosis)):
        return (
            "heavy tails: the fourth moment was not measured to 10%, so nor was the standard error: "
            "run more chains or steps, or a smaller learning rate"
        )
    if np.any(varies & (kurtosis > SUSPECT)) and (found := _lowest_tail_index(result, prediction))[0] <= FOURTH:
        return (
            f"heavy tails: the tail index is {found[1]}, so a fourth moment need not exist, nor a standard error: "
            "use a smaller learning rate or a larger batch"
        )
    return ""


def _lowest_tail_index(result: Result, prediction: Prediction | None) -> tuple[float, str]:
    """What the tail index is at least, and how it is told: as measured where that is clear, else by theory.

    Theory for a data set takes a minute.
    """
    measured = math.inf, "not known"
    if result.tail is not None and result.tail_group is not None and len(np.unique(result.tail)) >= MIN_SAMPLES:
        found = result.tail_index()
        measured = found.low, f"{found.low:.3g} to {found.high:.3g} as measured"
        if found.low > CLEARLY * FOURTH or found.high < FOURTH:
            return measured
    if prediction is not None:
        index = prediction.tail_index
        if not math.isnan(index.value):
            return index.low, "infinite" if index.value == math.inf else f"{index.value:.3g} by theory"
    return measured


def out_of_regime(result: Result, stated: str, prediction: Prediction | None) -> str:
    """Return why the result is not what a theory speaks of, or ""; `stated` is what the theory says itself."""
    if stated:
        return stated
    if result.diverged > 0:
        return f"{result.diverged} of {result.chains} chains diverged"
    if result.status != "ok":
        return f"the run ended with status {result.status!r}"
    if result.rhat is not None and np.max(np.asarray(result.rhat), initial=0.0) > MAX_RHAT:
        return f"R-hat is {np.max(np.asarray(result.rhat)):.3f}, above {MAX_RHAT}: the run had not settled"
    configuration = {} if prediction is None else prediction.configuration
    for key in ("problem", "optimizer", "batch_size", "sampling"):
        here, there = result.provenance.get(key), configuration.get(key)
        if here is not None and there is not None and not _same(here, there):
            return difference(key, here, there)
    return ""


def not_settled(result: Result, prediction: Prediction | None, scale: float, stderr: float) -> str:
    r"""Return why a difference may be what the start left behind, or "".

    Second moments forget the start by the factor rho a step, the radius of their recursion; a formula knows none, but
    curvature and learning rate of the run say it. Of what is lacking, the share
    $\rho^B (1 - \rho^T) / (T (1 - \rho))$ is left in a mean over T steps after a burn-in of B.
    """
    rho = result.provenance.get("forgetting") if prediction is None else prediction.spectral_radius
    burn_in, steps = result.provenance.get("burn_in"), result.provenance.get("steps_done")
    if rho is None or burn_in is None or steps is None or not 0 < rho < 1:
        return ""
    window = max(1, steps - burn_in)
    left = rho**burn_in * -math.expm1(window * math.log(rho)) / (window * (1 - rho))
    if left * scale <= stderr:
        return ""
    enough = burn_in + math.ceil(math.log(max(left * scale / max(stderr, 1e-300), math.e)) / -math.log(rho))
    return f"not settled: {left:.1%} of a slow direction's variance is still missing; try burn_in={enough}"


def _same(here: object, there: object) -> bool:
    if isinstance(here, str) != isinstance(there, str):
        return (here if isinstance(here, str) else repr(here)) == (there if isinstance(there, str) else repr(there))
    if isinstance(here, dict) and isinstance(there, dict):
        return here.keys() == there.keys() and all(_same(here[key], there[key]) for key in here)
    if jax.tree.structure(here) != jax.tree.structure(there):  # type: ignore[operator]
        return False
    return all(map(np.array_equal, jax.tree.leaves(here), jax.tree.leaves(there)))


def difference(what: str, here: object, there: object) -> str:
    """Say in what a result and a prediction differ: of long texts from the first word that is not the same on."""
    texts = [" ".join(str(value).split()) for value in (here, there)]
    common = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    start = max(texts[0].rfind(mark, 0, common) + len(mark) for mark in (", ", "("))
    shown = [text if len(text) <= _BRIEF else _shortened(text[start:], start > 0) for text in texts]
    return f"the result and the prediction differ in {what}: {shown[0]} against {shown[1]}"


def _shortened(text: str, cut: bool) -> str:
    return ("..." if cut else "") + (text if len(text) <= _BRIEF else text[: _BRIEF - 3] + "...")
