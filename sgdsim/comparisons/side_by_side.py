"""One result and several theories in one table."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from sgdsim._checks import need
from sgdsim.comparisons.comparison import Comparison, Row, count_verdicts, format_row
from sgdsim.comparisons.entries import Held
from sgdsim.comparisons.tables import Cells, Table

if TYPE_CHECKING:
    import pandas as pd

@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SideBySide(Table, Mapping[str, Comparison]):
    """The verdicts on several theories: a mapping from their names to comparisons.

    Attributes:
        comparisons: by the name of the theory.
        held: what each theory was held against, by its name and that of the quantity.
    """

    comparisons: dict[str, Comparison]
    held: dict[str, dict[str, Held]]

    def __getitem__(self, theory: str) -> Comparison:
        return self.comparisons[theory]

    def __iter__(self) -> Iterator[str]:
        return iter(self.comparisons)

    def __len__(self) -> int:
        return len(self.comparisons)

    @property
    def agree(self) -> list[str]:
        """The theories of which every row agrees."""
        return [name for name, one in self.comparisons.items() if one.agrees]

    @property
    def disagree(self) -> list[str]:
        """The theories of which a row disagrees."""
        return [name for name, one in self.comparisons.items() if one.disagrees]

    @property
    def apart(self) -> dict[tuple[str, str], dict[str, float]]:
        """How far theories are from each other, in units of the smallest difference that this run can tell.

        By pair of theories, then quantity: the entry with the largest. Below 1 the run cannot tell them apart.
        """
        found: dict[tuple[str, str], dict[str, float]] = {}
        for one, other in itertools.combinations(self.comparisons, 2):
            found[one, other] = {}
            rows = self._rows(one)
            for name, mine in self.held[one].items():
                if name in self.held[other]:
                    resolution = mine.resolution(rows[name].threshold)
                    difference = np.abs(mine.predicted - self.held[other][name].predicted)
                    ratio = np.divide(difference, resolution, out=np.where(difference > 0, np.inf, 0.0),
                                      where=resolution > 0)
                    found[one, other][name] = float(np.max(ratio, initial=0.0))
        return found

    def to_dataframe(self) -> pd.DataFrame:
        """Return the rows of all theories as a `pandas.DataFrame` (needs `pip install 'sgdsim[data]'`)."""
        rows = [{"theory": name, **row._asdict()} for name, one in self.comparisons.items() for row in one.rows]
        return need("pandas", "data").DataFrame(rows, columns=["theory", *Row._fields])

    def to_dict(self) -> dict[str, object]:
        """Plain Python numbers and strings, ready for JSON."""
        return {name: one.to_dict() for name, one in self.comparisons.items()}

    def _rows(self, theory: str) -> dict[str, Row]:
        return dict(zip(self.held[theory], self.comparisons[theory].rows, strict=True))

    def _cells(self) -> tuple[Cells, list[Cells]]:
        rows = {name: self._rows(name) for name in self.comparisons}
        names = dict.fromkeys(name for one in rows.values() for name in one)
        body: list[Cells] = [[name, *(_cell(one.get(name)) for one in rows.values())] for name in names]
        return ["quantity", *rows], body

    def _title(self) -> str:
        said = "; ".join(f"{name}: {count_verdicts(one.rows)}" for name, one in self.comparisons.items())
        return f"SideBySide({said})"

    def _notes(self) -> list[str]:
        notes = sorted({row.note for one in self.comparisons.values() for row in one.rows if row.note})
        for (one, other), by_quantity in self.apart.items():
            far = [f"{name} {ratio:.3g}" for name, ratio in by_quantity.items() if ratio]
            if far:
                notes.append(f"{one} and {other} are apart by so many times what this run can tell: {', '.join(far)}")
            elif by_quantity:
                notes.append(f"{one} and {other} say the same")
        return notes


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    quantity, _, _, _, z, relative, verdict = format_row(row)
    _, bracket, entry = quantity.rpartition("[")
    return f"{verdict}: {relative}, z {z}" + (f" at [{entry}" if bracket else "")
