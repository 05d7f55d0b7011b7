"""What an experiment hands back, and how large it may be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sgdsim.compare import DISAGREE, Row


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


class Verdict(NamedTuple):
    """A row of a comparison and the setting it belongs to."""

    setting: str
    row: Row


class Table(NamedTuple):
    """A table of text cells for the report."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Figure(NamedTuple):
    """A figure that is drawn when asked for, by a function that returns a matplotlib Figure."""

    name: str
    caption: str
    draw: Callable[[], Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """Verdicts, data and figures of one experiment.

    Attributes:
        verdicts: every compared quantity with its setting.
        data: arrays by name, as (dimension names, values); a name that is its own dimension is an axis.
        figures: what to draw.
        summary: what was found, a sentence each.
        tables: further tables.
        provenance: settings, versions, seed, device.
    """

    verdicts: Sequence[Verdict]
    data: Mapping[str, tuple[tuple[str, ...], Any]]
    figures: Sequence[Figure]
    summary: Sequence[str] = ()
    tables: Sequence[Table] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def disagrees(self) -> bool:
        """Whether any verdict is "disagree"."""
        return any(row.verdict == DISAGREE for _, row in self.verdicts)
