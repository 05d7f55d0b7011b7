"""A theory as numbers by name, wherever they come from, and what each measured quantity is held against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks, _labels
from sgdsim.comparisons.comparison import POWER, ROUNDING
from sgdsim.comparisons.entries import Held
from sgdsim.comparisons.in_time import predicted_in_time
from sgdsim.comparisons.quantity import Measured, Named, measure, parse
from sgdsim.results import Result
from sgdsim.results.derive import Function, measured, parameters
from sgdsim.solver.prediction import Prediction

Formulas = Mapping[str, ArrayLike]
Values = dict[str, np.ndarray]


class Theory(NamedTuple):
    """What a theory says.

    Attributes:
        values: by the name of a quantity, or of a part of one.
        spreads: standard deviations, by the name of the mean or covariance whose errors they are the scale of.
        theory_error: relative: of everything, or by name.
        out_of_regime: why it does not hold here, or "".
        reference: where it comes from.
        approximation: what kind of theory it is.
        prediction: where it is one of sgdsim's own, which knows more.
    """

    values: Values
    spreads: Values
    theory_error: float | Mapping[str, float] = 0.0
    out_of_regime: str = ""
    reference: str = ""
    approximation: str = "as given"
    prediction: Prediction | None = None


def predicted(prediction: Prediction, result: Result) -> Theory:
    """What a prediction says of what was measured."""
    here = measured(result)
    values = {name: np.asarray(value, np.float64) for name in (*_labels.PREDICTED, "variance")
              if name in here and (value := _attribute(prediction, name)) is not None}
    spreads = _spreads(values)
    for of, variance in (("", _attribute(prediction, "variance")), ("product_", prediction.product_covariance)):
        if variance is not None and f"{of}mean" in values:
            spreads[f"{of}mean"] = _root(np.asarray(variance))
    for name in result.quantities:
        if (law := predicted_in_time(prediction, name)) is not None:
            values[name], scale = (np.asarray(x, np.float64) for x in law)
            spreads[name] = scale if scale.ndim == 1 else np.sqrt(np.diag(scale))
    return Theory(values, spreads, prediction.theory_error, prediction.out_of_regime, prediction.reference,
                  prediction.approximation, prediction)


def _attribute(prediction: Prediction, name: str) -> ArrayLike | None:
    return None if name == "variance" and prediction.mean is None else getattr(prediction, name)


def given(formulas: Formulas) -> Theory:
    """What a mapping says.

    Raises:
        ValueError: it is empty, or a value is no array of finite numbers.
    """
    if not formulas or not all(isinstance(name, str) for name in formulas):
        raise _checks.error("theory", dict(formulas), "a mapping from names of quantities to values",
                            "try {'covariance': ...}")
    values = {name: _checks.finite_array(f"theory[{name!r}]", value, "check the formula")
              for name, value in formulas.items()}
    return Theory(values, _spreads(values))


def _root(variance: np.ndarray) -> np.ndarray:
    return np.sqrt(np.clip(variance if variance.ndim < 2 else np.diag(variance), 0, None))


def _spreads(values: Values) -> Values:
    """Standard deviations behind each mean and covariance of which something is known."""
    found = {}
    for name, value in values.items():
        if name == "variance" or (name.endswith("covariance") and value.ndim == 2):
            known = "covariance" if name == "variance" else name
            found[known] = found[known.removesuffix("covariance") + "mean"] = _root(value)
    return found


def hold(
    theory: Theory, result: Result, derived: Mapping[str, Function], also: Iterable[str] = ()
) -> dict[str, Held]:
    """Every quantity that was measured and that the theory speaks of, by name.

    Args:
        theory: what is held against the result.
        result: what was measured.
        derived: functions of measured quantities, by name.
        also: names that another theory speaks of.

    Raises:
        ValueError: the theory speaks of something that was not measured, or of another shape.
    """
    names = [*theory.values]
    if theory.prediction is not None:
        names = [name for name in names if name in result.quantities]
    pairs = {}
    for name in dict.fromkeys((*names, *also, *derived)):
        value = _value(theory, name, derived)
        if value is not None:
            here = measure(result, name, derived)
            if value.shape != here.value.shape:
                raise _checks.error(f"theory[{name!r}]", f"of shape {value.shape}", f"of shape {here.value.shape}",
                                    "predict for the problem that was simulated")
            pairs[name] = here, np.sort(value) if here.named.function == "eigenvalues" and value.ndim else value
    found = {}
    for name, (here, value) in pairs.items():
        scale = _scale(theory, here.named, value, result)
        rounding = _rounding(theory, here, scale, result, [] if name not in derived else parameters(derived[name]))
        stated = theory.theory_error
        error = stated if not isinstance(stated, Mapping) else stated.get(name, stated.get(here.named.base, 0.0))
        second = name in derived or here.named.base == "kurtosis" or _is_second_moment(here.named.base)
        found[name] = Held(here.named.label, here.value, here.stderr, value, scale, rounding, error, here.places,
                           second)
    return found


def _value(theory: Theory, name: str, derived: Mapping[str, Function]) -> np.ndarray | None:
    """What the theory says of a name, of whatever it follows from; None where it says nothing."""
    known = theory.values
    if name in known:
        return known[name]
    if "covariance" in known:
        known = {"variance": np.diag(known["covariance"]), **known}
    if name in derived:
        names = parameters(derived[name])
        if not all(n in known for n in names):
            return None
        return np.asarray(derived[name](**{n: known[n].copy()[()] for n in names}), np.float64)
    named = parse(name)
    return named.of(known[named.base]) if named.base in known else None


def _scale(theory: Theory, named: Named, value: np.ndarray, result: Result) -> np.ndarray:
    """What a standard error of each entry has to be small against."""
    key = "covariance" if named.base.startswith("autocovariance_") else named.base
    by_theory = theory.spreads.get(named.base, theory.spreads.get(key))
    spread = _spreads({n: v for n, (v, _) in measured(result).items()}).get(key) if by_theory is None else by_theory
    if spread is None or named.function or not named.base.endswith(("mean", "covariance", key)):
        size = np.abs(value)
        return size if named.base in _labels.LABELS or not size.size else np.where(size == 0, size.max(), size)
    whole = spread if named.base.endswith("mean") else np.outer(spread, spread)
    return np.asarray(whole[named.entries] if named.entries else whole)


def _rounding(
    theory: Theory, here: Measured, scale: np.ndarray, result: Result, made_of: Iterable[str]
) -> np.ndarray:
    """How far rounding errors of the chains alone can move each entry."""
    epsilon = float(np.finfo(np.float64 if "64" in dtype_of(result) else np.float32).eps)
    size = ROUNDING * epsilon * _largest(theory, result)
    base = here.named.base
    if base.endswith("mean"):
        return np.full(scale.shape, size)
    relative = ROUNDING / 4 * epsilon * scale
    parts = list(made_of)
    if any(not np.all(size**2 <= POWER * np.abs(_diagonal(v))) for n, (v, _) in measured(result).items()
           if n in parts and _is_second_moment(n)):
        return scale  # what it is made of is itself rounding error
    return size**2 + relative if _is_second_moment(base) else relative


def _is_second_moment(name: str) -> bool:
    return name.endswith(("covariance", "variance", "loss")) or name.startswith("autocovariance_")


def _diagonal(value: np.ndarray) -> np.ndarray:
    return np.diag(value) if value.ndim == 2 else value


def _largest(theory: Theory, result: Result) -> float:
    """Size of the largest parameter, as the theory has it, or as measured."""
    law = theory.prediction
    if law is not None:
        centre = law.product_mean if law.mean is None else law.mean
    else:
        known = measured(result)
        found = next((known[name][0] for name in ("mean", "product_mean") if name in known), result.final)
        centre = 0.0 if found is None else np.where(np.isfinite(found), found, 0.0)
    return float(np.max(np.abs(centre), initial=1e-12))


def dtype_of(result: Result) -> str:
    """In which the chains ran."""
    return str(result.provenance.get("dtype", "float32"))
