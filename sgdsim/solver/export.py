"""Predictions as xarray datasets and as small HTML tables."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from sgdsim import _checks, _html, _labels

QUANTITIES = (
    "mean",
    "covariance",
    "noise_covariance",
    "train_loss",
    "test_loss",
    "product_mean",
    "product_covariance",
)
LIMITS = ("max_learning_rate", "spectral_radius", "tail_index", "tail_index_stderr")


def prediction_to_xarray(prediction: Any, limits: bool) -> Any:
    """One variable a quantity, under the names that a simulation's dataset has."""
    xr = _checks.need("xarray", "results")
    variables = {}
    for name in (*QUANTITIES, *(LIMITS if limits else ())):
        value = getattr(prediction, name)
        if value is not None:
            variables[name] = (_labels.dimensions(name, np.ndim(value)), value, _labels.attributes(name))
    variables["theory_error"] = ((), prediction.theory_error, _labels.attributes("theory_error"))
    coordinates: dict[str, Any] = {"batch_size": prediction.configuration["batch_size"]}
    if prediction.mean is not None:
        coordinates["parameter"] = np.arange(len(prediction.mean))
    attributes = {name: getattr(prediction, name) for name in ("approximation", "regime", "reference", "out_of_regime")}
    attributes |= {"kind": "Prediction", "equations": _labels.EQUATIONS}
    attributes["configuration"] = json.dumps(prediction.configuration)
    return xr.Dataset(variables, coordinates, attributes)


def prediction_html(prediction: Any) -> str:
    """Predicted quantities; the limits only where they have been computed already."""
    rows = []
    for name in QUANTITIES:
        value = getattr(prediction, name)
        if value is not None:
            rows.append((name, _labels.brief(value), _labels.LABELS[name].description))
    for name in LIMITS[:3]:
        value = prediction.__dict__[name]
        text = "computed when first read" if callable(value) else _labels.brief(value)
        rows.append((name, text, _labels.LABELS[name].description))
    if prediction.theory_error:
        rows.append(("theory_error", f"{prediction.theory_error:.2g}", _labels.LABELS["theory_error"].description))
    notes = (f"regime: {prediction.regime}", prediction.out_of_regime, f"reference: {prediction.reference}")
    return _html.table(repr(prediction), ("quantity", "predicted", ""), rows, notes=notes)


def polynomial_to_xarray(polynomial: Any) -> Any:
    """The coefficients along the dimension `power`."""
    xr = _checks.need("xarray", "results")
    units = {"description": f"coefficients of the powers of {polynomial.variable}", "units": "loss^2 w^-2"}
    attributes = {"kind": "VariancePolynomial", "variable": polynomial.variable, "degree": polynomial.degree}
    if polynomial.factor.n_examples is not None:
        attributes["n_examples"] = polynomial.factor.n_examples
    if polynomial.exact is not None:
        attributes["exact"] = json.dumps([str(value) for value in polynomial.exact])
    powers = np.arange(len(polynomial.coefficients))
    return xr.Dataset({"coefficients": ("power", polynomial.coefficients, units)}, {"power": powers}, attributes)


def polynomial_html(polynomial: Any) -> str:
    """One row a coefficient, the first twelve of them."""
    shown = 12
    exact = polynomial.exact or ()
    header = ("k", "v_k", *(("exact",) if exact else ()))
    rows = []
    for k, value in enumerate(polynomial.coefficients[:shown]):
        fraction = str(exact[k]) if k < len(exact) else ""
        row = (str(k), f"{value:.8g}", fraction if len(fraction) <= 40 else "known exactly")
        rows.append(row[: len(header)])
    more = len(polynomial.coefficients) - shown
    notes = (f"and {more} more" if more > 0 else "", f"variance = sum of v_k x^k, x = {polynomial.variable}")
    return _html.table(f"VariancePolynomial of degree {polynomial.degree} in {polynomial.variable}", header, rows,
                       notes=notes)
