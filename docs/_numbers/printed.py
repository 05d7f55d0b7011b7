"""Numbers on a page against what the library says: the means of `docs/_numbers`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

PAGES = Path(__file__).resolve().parents[1]
_NUMBER = r"([+-]?\d*\.?\d+(?:e[+-]?\d+)?)"


class Said(NamedTuple):
    """A piece of a page.

    Attributes:
        text: as it stands there, with {} in place of each number.
        now: what the library says.
        errors: standard errors of simulated numbers; 0 for those that are computed.
    """

    text: str
    now: tuple[float, ...]
    errors: tuple[float, ...] = ()


class Source(NamedTuple):
    """Where the numbers of a page come from.

    Attributes:
        page: below docs/.
        make: makes them.
        seconds: about how long that takes on two cores.
    """

    page: str
    make: Callable[[], Iterator[Said]]
    seconds: int


SOURCES: dict[str, Source] = {}


def numbers(page: str, seconds: int = 1) -> Callable[[Callable[[], Iterator[Said]]], Callable[[], Iterator[Said]]]:
    """Register what makes numbers of a page."""

    def register(make: Callable[[], Iterator[Said]]) -> Callable[[], Iterator[Said]]:
        SOURCES[make.__name__] = Source(page, make, seconds)
        return make

    return register


def row(label: str, *values: float, errors: tuple[float, ...] = ()) -> Said:
    """A row of a table: its first cells, and a number in each other cell."""
    return Said(f"| {label} | {' | '.join('{}' for _ in values)} |", values, errors)


def pattern(text: str) -> re.Pattern[str]:
    """Finds a piece of a page, over the ends of its lines."""
    words = re.escape(text).replace(r"\{\}", _NUMBER)
    return re.compile(re.sub(r"(\\ |\s)+", r"\\s+", words))


def unit_of(printed: str) -> float:
    """One in the last digit."""
    mantissa, _, exponent = printed.partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def wrong(printed: str, now: float, error: float) -> bool:
    """Whether a printed number is neither `now` rounded nor, if it is simulated, within four standard errors of it."""
    return not abs(float(printed) - now) <= 0.501 * unit_of(printed) + 4 * error


def printed_like(printed: str, now: float) -> str:
    """`now` with as many digits, and in the same style."""
    mantissa, scientific, _ = printed.partition("e")
    digits = len(mantissa.partition(".")[2])
    said = f"{now:{'+' if printed[0] == '+' else ''}.{digits}{'e' if scientific else 'f'}}"
    return said if re.match(r"[+-]?\d", printed) else said.replace("0.", ".", 1)


def _find(page: str, text: str) -> re.Match[str]:
    found = pattern(text).search(page)
    if found is None:
        raise LookupError(f"the page no longer says: {text}")
    return found


def differences(page: str, said: Said) -> Iterator[tuple[str, float]]:
    """The printed numbers of one piece that are wrong, and what they should be."""
    found = _find(page, said.text)
    errors = said.errors or (0.0,) * len(said.now)
    for printed, now, error in zip(found.groups(), said.now, errors, strict=True):
        if wrong(printed, float(now), float(error)):
            yield printed, float(now)


def corrected(page: str, said: Said) -> str:
    """The page with the numbers of one piece as they are now."""
    found = _find(page, said.text)
    for k in range(len(said.now), 0, -1):
        start, end = found.span(k)
        page = page[:start] + printed_like(found[k], float(said.now[k - 1])) + page[end:]
    return page
