"""Validation of what a user hands in. Every message names the argument, its value, what is allowed, what to try."""

from __future__ import annotations

import difflib
import importlib
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_SHOWN = 60
# Products of a few such numbers, or of their inverses, stay finite in double precision.
LARGEST = 1e50


def _show(value: Any) -> str:
    try:
        text = " ".join(repr(value.item() if isinstance(value, np.generic) else value).split())
    except ValueError:  # Python prints no whole number of more than 4300 digits
        text = f"a {type(value).__name__} too large to print"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def error(argument: str, value: Any, allowed: str, remedy: str) -> ValueError:
    """The one form of every complaint about an input."""
    return ValueError(f"{argument} is {_show(value)}, but it must be {allowed}; {remedy}")


def need(module: str, extra: str) -> Any:
    """An optional dependency, or one line that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise ImportError(f"this needs {module}; pip install 'sgdsim[{extra}]'") from missing


def finite_array(argument: str, value: Any, remedy: str = "check the data for missing values") -> np.ndarray:
    """A float64 copy of `value`, without NaN or infinity: what the caller does to it later changes nothing here."""
    try:
        if np.iscomplexobj(value):  # NumPy would drop the imaginary part
            raise TypeError
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise error(argument, value, "an array of real numbers", remedy) from None
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        place = f" at index {where}" if where else ""
        raise error(argument, array[where] if where else value, f"finite{place}", remedy)
    if array.size and np.abs(array).max() > LARGEST:
        raise error(argument, value, f"of numbers up to {LARGEST:g} in size", "choose other units")
    return array


def real(argument: str, value: Any, allowed: str, remedy: str) -> float:
    """`value` as one real number."""
    listed = isinstance(value, list | tuple | dict | bool | np.bool_ | str | bytes)  # ragged lists have no ndim
    if listed or np.ndim(value) != 0 or np.iscomplexobj(value):
        raise error(argument, value, allowed, remedy)
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise error(argument, value, allowed, remedy) from None


def positive(argument: str, value: Any, remedy: str = "pass a positive number") -> float:
    """A positive, finite number."""
    number = real(argument, value, "a positive finite number", remedy)
    if not (np.isfinite(number) and number > 0):
        raise error(argument, value, "a positive finite number", remedy)
    if number < 1 / LARGEST:
        raise error(argument, value, f"at least {1 / LARGEST:g}", "choose other units")
    return _moderate(argument, number)


def non_negative(argument: str, value: Any, remedy: str = "pass 0 or a positive number") -> float:
    """A non-negative, finite number."""
    number = real(argument, value, "a non-negative finite number", remedy)
    if not (np.isfinite(number) and number >= 0):
        raise error(argument, value, "a non-negative finite number", remedy)
    return _moderate(argument, number)


def _moderate(argument: str, number: float) -> float:
    if number > LARGEST:
        raise error(argument, number, f"at most {LARGEST:g}", "choose other units")
    return number


def fraction(argument: str, value: Any, remedy: str = "0 switches it off, 0.9 is common") -> float:
    """A number in [0, 1)."""
    number = real(argument, value, "in [0, 1)", remedy)
    if not 0 <= number < 1:
        raise error(argument, value, "in [0, 1)", remedy)
    return number


def integer(argument: str, value: Any, *, low: int = 1, high: int | None = None, remedy: str = "") -> int:
    """A whole number in [low, high]."""
    allowed = f"a whole number >= {low}" if high is None else f"a whole number from {low} to {_show(high)}"
    remedy = remedy or f"try {argument}={low if high is None else high}"
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        raise error(argument, value, allowed, remedy)
    return int(value)


def sequence(argument: str, value: Any) -> list[Any]:
    """One number or a flat list of numbers, as a list."""
    items = list(value) if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) else [value]
    if any(not isinstance(item, numbers.Number) and np.shape(item) != () for item in items):
        raise error(argument, value, "one number or a flat list of numbers", f"try {argument}=[1, 2]")
    return items


def choice(argument: str, value: Any, allowed: Iterable[str]) -> str:
    """One of the names in `allowed`; the complaint suggests the nearest."""
    names = list(allowed)
    if value not in names:
        near = difflib.get_close_matches(str(value), names, n=3, cutoff=0.4)
        remedy = f"did you mean {' or '.join(map(repr, near))}?" if near else f"try {names[0]!r}"
        raise error(argument, value, f"one of {', '.join(map(repr, names))}", remedy)
    return value


def vector(argument: str, value: Any, dimension: int) -> np.ndarray:
    """A finite vector of the given length."""
    array = finite_array(argument, value)
    if array.shape != (dimension,):
        raise error(argument, value, f"a vector of length {dimension} (got shape {array.shape})",
                    "give one number for each parameter")
    return array


def symmetric(argument: str, value: Any, dimension: int | None = None) -> np.ndarray:
    """A finite symmetric operator: length-D diagonal or D x D matrix, made exactly symmetric."""
    array = finite_array(argument, value)
    if array.ndim not in (1, 2) or array.size == 0 or (array.ndim == 2 and array.shape[0] != array.shape[1]):
        raise error(argument, value, f"a D x D matrix or a length-D diagonal (got shape {array.shape})",
                    "pass a square matrix, or its diagonal as a list")
    if dimension is not None and array.shape[0] != dimension:
        raise error(argument, value, f"of dimension {dimension} (got shape {array.shape})",
                    "give it the same dimension as the other arguments")
    if array.ndim == 2:
        if np.abs(array - array.T).max() > 1e-8 * max(np.abs(array).max(), 1e-300):
            raise error(argument, value, "symmetric", f"symmetrise it: ({argument} + {argument}.T) / 2")
        array = (array + array.T) / 2
    return array


def positive_semidefinite(argument: str, value: Any, dimension: int | None = None) -> np.ndarray:
    """A symmetric operator (length-D diagonal or D x D matrix) without negative eigenvalues."""
    array = symmetric(argument, value, dimension)
    eigenvalues: Any = array if array.ndim == 1 else np.linalg.eigvalsh(array)
    if eigenvalues.min() < -1e-10 * max(abs(eigenvalues).max(), 1e-300):
        raise error(argument, value, f"positive semi-definite (smallest eigenvalue {eigenvalues.min():.3g})",
                    "a covariance has no negative eigenvalue: check signs and symmetry")
    return array
