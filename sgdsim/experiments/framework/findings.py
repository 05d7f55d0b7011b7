"""What an experiment hands back, and how large it may be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

from numpy.typing import ArrayLike

from sgdsim.comparisons.comparison import DISAGREE, Row


class Scale(NamedTuple):
    """How much to simulate; nothing else about an experiment depends on it.

    Attributes:
        name: "smoke", "laptop" or "full".
        chains: independent runs a point.
        steps: measured steps a chain, after the burn-in.
        points: simulated points along a curve.
    """

    name: str
    chains: int
    steps: int
    points: int


SCALES = {
    "smoke": Scale("smoke", 16_384, 400, 5),
    "laptop": Scale("laptop", 32_768, 1_000, 9),
    "full": Scale("full", 262_144, 4_000, 15),
}

# A correct prediction meets any "disagree" in one experiment out of a thousand.
ERROR_RATE = 0.001

# Arrays by name, as (dimension names, values); a name that is its own dimension is an axis.
Data: TypeAlias = dict[str, tuple[tuple[str, ...], ArrayLike]]


def share(count: int, error_rate: float = ERROR_RATE) -> float:
    """The error rate of each of so many comparisons that keeps their common one."""
    return 1 - (1 - error_rate) ** (1 / max(count, 1))


class Verdict(NamedTuple):
    """A row of a comparison and the setting it belongs to."""

    setting: str
    row: Row


class Table(NamedTuple):
    """A table of text cells for the report."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Drawing(Protocol):
    """What is known of a matplotlib Figure."""

    def savefig(self, fname: Path, *, dpi: int) -> None:
        """Write it to a file."""
        ...


class Figure(NamedTuple):
    """A figure that is drawn when asked for."""

    name: str
    caption: str
    draw: Callable[[], Drawing]


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """Verdicts, data and figures of one experiment.

    Attributes:
        verdicts: every compared quantity with its setting.
        data: arrays by name, with named dimensions.
        figures: what to draw.
        summary: what was found, a sentence each.
        tables: further tables.
        provenance: settings, versions, seed, device.
    """

    verdicts: Sequence[Verdict]
    data: Data
    figures: Sequence[Figure]
    summary: Sequence[str] = ()
    tables: Sequence[Table] = ()
    provenance: Mapping[str, object] = dataclasses.field(default_factory=dict)

    @property
    def disagrees(self) -> bool:
        """Whether any verdict is "disagree"."""
        return any(row.verdict == DISAGREE for _, row in self.verdicts)
