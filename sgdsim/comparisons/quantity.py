"""What a comparison may name: a measured quantity, an entry, a block, a trace, eigenvalues, a derived number."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from sgdsim import _checks
from sgdsim.results import Result
from sgdsim.results.derive import Function, jackknifed, measured, not_measured, parameters

_NAME = re.compile(r"(?:(?P<function>\w+)\((?P<of>[^()\[\]]+)\)|(?P<name>[^()\[\]]+))(?:\[(?P<index>[^\[\]]+)\])?")
_INDEX = re.compile(r"(-?\d*)(?:(:)(-?\d*))?")


def _eigenvalues(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.eigvalsh((matrix + matrix.T) / 2)


FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"trace": np.trace, "eigenvalues": _eigenvalues}

Entries = tuple[int | slice, ...]


class Named(NamedTuple):
    """What a name stands for: entries of a function of a quantity; the function and the index may be left out."""

    base: str
    function: str = ""
    entries: Entries = ()

    @property
    def label(self) -> str:
        """Without the index."""
        return f"{self.function}({self.base})" if self.function else self.base

    def of(self, value: np.ndarray) -> np.ndarray:
        """The same of any value of the quantity."""
        whole = FUNCTIONS[self.function](value) if self.function else value
        return np.asarray(whole[self.entries] if self.entries else whole)


class Measured(NamedTuple):
    """A measured number or array with its standard error, and where its entries stand in the quantity."""

    named: Named
    value: np.ndarray
    stderr: np.ndarray
    places: np.ndarray  # (*shape, axes)


def parse(name: str) -> Named:
    """Read `covariance`, `covariance[0,1]`, `covariance[0:2,0:2]`, `trace(covariance)`, `eigenvalues(covariance)[-1]`.

    `trace` and `eigenvalues` alone are those of the covariance.

    Raises:
        ValueError: it is none of these.
    """
    found = _NAME.fullmatch(name)
    remedy = "try 'covariance', 'covariance[0,1]', 'trace(covariance)' or 'eigenvalues(covariance)'"
    if found is None:
        raise _checks.error("theory", name, "the name of a quantity, an entry, a block, a trace or eigenvalues", remedy)
    if found["function"]:
        _checks.choice(f"theory: {name}", found["function"], FUNCTIONS)
    index = tuple(_one_index(name, part.strip()) for part in found["index"].split(",")) if found["index"] else ()
    if found["name"] in FUNCTIONS:
        return Named("covariance", found["name"], index)
    return Named(found["of"] or found["name"], found["function"] or "", index)


def _one_index(name: str, text: str) -> int | slice:
    found = _INDEX.fullmatch(text)
    if found is None or (not found[2] and not found[1]):
        raise _checks.error("theory", name, "with whole numbers or ranges as index", "try 'covariance[0,1]'")
    low, high = (int(found[i]) if found[i] else None for i in (1, 3))
    return slice(low, high) if found[2] else int(text)


def measure(result: Result, name: str, derived: Mapping[str, Function]) -> Measured:
    """What a result measured of a name, with its standard error.

    Raises:
        ValueError: it was not measured, or has no such entry.
    """
    known = measured(result)
    if name in derived:
        found = jackknifed(derived[name], [result])
        return _whole(Named(name), found.value[0], found.stderr[0])
    if name == "tail_index" and result.tail is not None:
        tail = result.tail_index()
        return _whole(Named(name), np.asarray(tail.value), np.asarray(tail.stderr))
    named = Named(name) if name in known else parse(name)
    if named.base not in known:
        raise not_measured("theory", named.base, [*known, *derived])
    value, stderr = known[named.base]
    if named.function:
        if value.ndim != 2 or value.shape[0] != value.shape[1]:
            raise _checks.error("theory", name, "of a square matrix", f"{named.base} has shape {value.shape}")
        function = FUNCTIONS[named.function]
        found = jackknifed(lambda **given: function(given[named.base]), [result], [named.base])
        value, stderr = found.value[0], found.stderr[0]
    whole = _whole(named, value, stderr)
    if not named.entries:
        return whole
    try:
        return Measured(named, *(np.asarray(array[named.entries]) for array in whole[1:]))
    except IndexError:
        raise _checks.error("theory", name, f"within shape {value.shape}", "count entries from 0") from None


def function_of(
    quantity: str | Function, result: Result, derived: Mapping[str, Function] | None = None
) -> tuple[Function, list[str]]:
    """A name as a function of measured quantities, and the names of what it gets; or a function itself.

    Raises:
        ValueError: it was not measured.
    """
    if not isinstance(quantity, str):
        return quantity, parameters(quantity)
    if derived and quantity in derived:
        return derived[quantity], parameters(derived[quantity])
    known = measured(result)
    named = Named(quantity) if quantity in known else parse(quantity)
    if named.base not in known:
        raise not_measured("quantity", named.base, [*known, *(derived or {})])
    return lambda **given: named.of(np.asarray(given[named.base])), [named.base]


def _whole(named: Named, value: np.ndarray, stderr: np.ndarray) -> Measured:
    value = np.asarray(value, np.float64)
    places = np.moveaxis(np.indices(value.shape), 0, -1)
    return Measured(named, value, np.broadcast_to(np.asarray(stderr, np.float64), value.shape), places)
