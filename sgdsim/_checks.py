"""Validation of what a user hands in. Every message names the argument, its value, what is allowed, what to try."""

from __future__ import annotations

import decimal
import difflib
import functools
import importlib
import numbers
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

_SHOWN = 60
# Products of a few such numbers, or of their inverses, stay finite in double precision.
LARGEST = 1e50
EXACT = 2**53  # from here on float64 misses whole numbers
_APART = 1e5  # scales beyond which a singular matrix has no eigenvector that can be told from rounding


class NotConverged(RuntimeError):
    """An iteration that ended before it settled.

    Args:
        message: what did not converge, and what to try.
        reached: where it stood, for whoever can use it all the same.

    Examples:
        >>> import sgdsim as ss
        >>> ss.NotConverged("no fixed point after 100 steps", reached=0.5).reached
        0.5
    """

    def __init__(self, message: str, reached: object = None):
        super().__init__(message)
        self.reached = reached


def _show(value: object) -> str:
    try:
        text = " ".join(repr(value.item() if isinstance(value, np.generic) else value).split())
    except ValueError:  # Python prints no whole number of more than 4300 digits
        text = f"a {type(value).__name__} too large to print"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def error(argument: str, value: object, allowed: str, remedy: str) -> ValueError:
    """The one form of every complaint about an input."""
    return ValueError(f"{argument} is {_show(value)}, but it must be {allowed}; {remedy}")


def need(module: str, extra: str) -> Any:
    """An optional dependency, or one line that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise ImportError(f"this needs {module}; pip install 'sgdsim[{extra}]'") from missing


def _refuse_traced(argument: str, *values: object) -> None:
    if any(isinstance(value, jax.core.Tracer) for value in values):
        raise error(argument, "what JAX traces", "known where it is checked",
                    "build problem and optimizer outside and hand them in whole: "
                    "jax.grad(lambda p: loss(p))(problem) has every field")


def real_array(argument: str, value: object, remedy: str = "check the data for missing values") -> np.ndarray:
    """`value` as an array of real numbers, a copy in its own dtype; nothing that would change on the way is taken.

    Masks would be dropped, dates and durations become counts, text be read, imaginary parts and whole numbers beyond
    2^53 be cut: each is refused.
    """
    allowed = "an array of real numbers"
    parts = value if isinstance(value, list | tuple) else (value,)
    _refuse_traced(argument, *parts)
    if any(np.ma.is_masked(part) for part in parts):
        raise error(argument, value, f"{allowed}, none of them masked", "fill the masked entries, or drop their rows")
    try:
        array = np.array(value)
    except (TypeError, ValueError, OverflowError):
        raise error(argument, value, allowed, remedy) from None
    if array.dtype == object:
        if not all(_is_real(item) for item in array.flat):
            raise error(argument, value, allowed, remedy)
        array = _as_float64(argument, array, remedy)
    if array.dtype.kind not in "biuf" and not np.can_cast(array.dtype, np.float64):  # bfloat16 and its like can
        raise error(argument, value, f"{allowed}, not {array.dtype.name}", remedy)
    if array.dtype.kind in "iu" and array.size and max(-int(array.min()), int(array.max())) > EXACT:
        raise error(argument, value, "of whole numbers up to 2^53, which floating point holds exactly",
                    "subtract an offset, or choose other units")
    return array


def _is_real(item: object) -> bool:
    number = isinstance(item, numbers.Real | decimal.Decimal) and not isinstance(item, np.timedelta64)
    return number and not (isinstance(item, int) and abs(item) > EXACT)


def _as_float64(argument: str, array: np.ndarray, remedy: str) -> np.ndarray:
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise error(argument, array, "an array of real numbers", remedy) from None


def finite_array(argument: str, value: object, remedy: str = "check the data for missing values") -> np.ndarray:
    """A float64 copy of `value`, without NaN or infinity: what the caller does to it later changes nothing here."""
    array = real_array(argument, value, remedy).astype(np.float64)
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        place = f" at index {where}" if where else ""
        raise error(argument, array[where] if where else value, f"finite{place}", remedy)
    if array.size and np.abs(array).max() > LARGEST:
        raise error(argument, value, f"of numbers up to {LARGEST:g} in size", "choose other units")
    return array


def example_array(argument: str, value: object, like: np.ndarray | None = None) -> np.ndarray:
    """Examples along the first axis: whole numbers (class labels, token ids) as int32, all others as float64.

    Args:
        argument: the name of what is checked, for the complaint.
        value: what was given.
        like: training examples; held-out ones must have rows of the same shape and kind.
    """
    array = real_array(argument, value)
    if array.ndim < 1 or array.size == 0:
        raise error(argument, value, f"of shape (n, ...) (got shape {array.shape})", "one row an example")
    if like is not None and array.shape[1:] != like.shape[1:]:
        raise error(argument, f"rows of shape {array.shape[1:]}", f"rows of shape {like.shape[1:]}",
                    "prepare them like the training examples")
    whole = array.dtype.kind in "iu" if like is None else like.dtype.kind == "i"
    if not whole:
        return finite_array(argument, array)
    if np.any(array != np.round(array)):
        raise error(argument, value, "of whole numbers, as the training examples are",
                    "give the training examples as floating-point numbers too")
    limits = np.iinfo(np.int32)
    if array.min() < limits.min or array.max() > limits.max:
        raise error(argument, value, f"of whole numbers from {limits.min} to {limits.max}",
                    "pass larger ones as floating-point numbers")
    return array.astype(np.int32)


def path(argument: str, value: str | os.PathLike[str]) -> Path:
    """A path, with `~` as the shell reads it."""
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise error(argument, value, "a path", f"try {argument}='run'")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise error(argument, str(value), "a path of this machine", "nobody here has such a home folder") from None


def real(argument: str, value: Any, allowed: str, remedy: str) -> float:
    """`value` as one real number."""
    _refuse_traced(argument, value)
    # Ragged lists have no ndim; float() takes durations for numbers and masked ones for NaN.
    listed = isinstance(value, list | tuple | dict | bool | np.bool_ | str | bytes | np.timedelta64)
    if listed or np.ndim(value) != 0 or np.iscomplexobj(value) or np.ma.is_masked(value):
        raise error(argument, value, allowed, remedy)
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise error(argument, value, allowed, remedy) from None


def positive(argument: str, value: object, remedy: str = "pass a positive number") -> float:
    """A positive, finite number."""
    number = real(argument, value, "a positive finite number", remedy)
    if not (np.isfinite(number) and number > 0):
        raise error(argument, value, "a positive finite number", remedy)
    if number < 1 / LARGEST:
        raise error(argument, value, f"at least {1 / LARGEST:g}", "choose other units")
    return _moderate(argument, number)


def non_negative(argument: str, value: object, remedy: str = "pass 0 or a positive number") -> float:
    """A non-negative, finite number."""
    number = real(argument, value, "a non-negative finite number", remedy)
    if not (np.isfinite(number) and number >= 0):
        raise error(argument, value, "a non-negative finite number", remedy)
    return _moderate(argument, number)


def _moderate(argument: str, number: float) -> float:
    if number > LARGEST:
        raise error(argument, number, f"at most {LARGEST:g}", "choose other units")
    return number


def fraction(argument: str, value: object, remedy: str = "0 switches it off, 0.9 is common") -> float:
    """A number in [0, 1)."""
    number = real(argument, value, "in [0, 1)", remedy)
    if not 0 <= number < 1:
        raise error(argument, value, "in [0, 1)", remedy)
    return number


def between_0_and_1(argument: str, value: object, remedy: str) -> float:
    """A number in (0, 1)."""
    number = real(argument, value, "in (0, 1)", remedy)
    if not 0 < number < 1:
        raise error(argument, value, "in (0, 1)", remedy)
    return number


def flag(argument: str, value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise error(argument, value, "True or False", f"try {argument}=True")
    return bool(value)


def integer(argument: str, value: Any, *, low: int = 1, high: int | None = None, remedy: str = "") -> int:
    """A whole number in [low, high]."""
    allowed = f"a whole number >= {low}" if high is None else f"a whole number from {low} to {_show(high)}"
    remedy = remedy or f"try {argument}={low if high is None else high}"
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool | np.timedelta64)
    if not whole or value < low or (high is not None and value > high):
        raise error(argument, value, allowed, remedy)
    return int(value)


def sequence(argument: str, value: Any) -> list[Any]:
    """One number or a flat list of numbers, as a list."""
    items = list(value) if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) else [value]
    if any(not isinstance(item, numbers.Number) and np.shape(item) != () for item in items):
        raise error(argument, value, "one number or a flat list of numbers", f"try {argument}=[1, 2]")
    return items


def choice(argument: str, value: object, allowed: Iterable[str]) -> str:
    """One of the names in `allowed`; the complaint suggests the nearest."""
    names = list(allowed)
    if value not in names:
        alike = functools.partial(difflib.get_close_matches, str(value), names, 3)
        near = alike(0.8) or alike(0.4)
        remedy = f"did you mean {' or '.join(map(repr, near))}?" if near else f"try {names[0]!r}"
        raise error(argument, value, f"one of {', '.join(map(repr, names))}", remedy)
    return value


def vector(argument: str, value: object, dimension: int) -> np.ndarray:
    """A finite vector of the given length."""
    array = finite_array(argument, value)
    if array.shape != (dimension,):
        raise error(argument, value, f"a vector of length {dimension} (got shape {array.shape})",
                    "give one number for each parameter")
    return array


def symmetric(argument: str, value: object, dimension: int | None = None) -> np.ndarray:
    """A finite symmetric operator: length-D diagonal or D x D matrix, made exactly symmetric."""
    array = finite_array(argument, value)
    if array.ndim not in (1, 2) or array.size == 0 or (array.ndim == 2 and array.shape[0] != array.shape[1]):
        raise error(argument, value, f"a D x D matrix or a length-D diagonal (got shape {array.shape})",
                    "pass a square matrix, or its diagonal as a list")
    if dimension is not None and array.shape[0] != dimension:
        raise error(argument, value, f"of dimension {dimension} (got shape {array.shape})",
                    "give it the same dimension as the other arguments")
    if array.ndim == 2:
        # Sums in another order leave float32 some ten of its roundings of asymmetry.
        given = np.asarray(value).dtype
        rounding = 16 * float(np.finfo(given).eps) if given.kind == "f" else 0.0
        if np.abs(array - array.T).max() > max(1e-8, rounding) * max(np.abs(array).max(), 1e-300):
            raise error(argument, value, "symmetric", f"symmetrise it: ({argument} + {argument}.T) / 2")
        array = (array + array.T) / 2
    return array


def positive_semidefinite(argument: str, value: object, dimension: int | None = None) -> np.ndarray:
    """A symmetric operator (length-D diagonal or D x D matrix) without negative eigenvalues."""
    array = symmetric(argument, value, dimension)
    eigenvalues: Any = array if array.ndim == 1 else np.linalg.eigvalsh(array)
    if eigenvalues.min() < -1e-10 * max(abs(eigenvalues).max(), 1e-300):
        raise error(argument, value, f"positive semi-definite (smallest eigenvalue {eigenvalues.min():.3g})",
                    "a covariance has no negative eigenvalue: check signs and symmetry")
    return array


def scales_of_singular(argument: str, scales: np.ndarray) -> None:
    """Refuse scales of the parameters of a singular matrix beyond which rounding hides its null space."""
    if scales.max() > _APART * scales.min():
        raise error(argument, scales.max() / scales.min(),
                    f"at most {_APART:g}, the ratio of the scales of the parameters, where it is singular",
                    "standardize the columns of the features, or drop what depends on others")
