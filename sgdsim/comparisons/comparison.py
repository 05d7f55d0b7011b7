"""What a comparison hands back: rows with verdicts, as a table, a data frame, plain data."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy

from sgdsim import _html
from sgdsim._checks import need
from sgdsim.comparisons.tables import Cells, Table

if TYPE_CHECKING:
    import pandas as pd

AGREE, DISAGREE, UNDERPOWERED, OUT = "agree", "disagree", "underpowered", "out of regime"
POWER = 0.1  # a standard error above this fraction of the scale cannot tell right from wrong
DEFAULT_GROUPS = 64
ROUNDING = 64  # machine epsilons, relative to the largest parameter, that arithmetic alone may be off by


class Row(NamedTuple):
    """One compared quantity; for a vector or matrix, its entry with the largest |z|.

    Attributes:
        quantity: name, with the index of the shown entry, as in ``covariance[0,1]``.
        simulated: measured value of that entry.
        stderr: its standard error, from independent groups of chains.
        predicted: its predicted value.
        z: (simulated - predicted) / stderr; of an approximate theory, what exceeds its own error.
        relative_error: (simulated - predicted) / scale, the scale being |predicted| for losses and what else is
            measured, sqrt(S_ii S_jj) for entry ij of a covariance S and sqrt(Sigma_ii) for the mean; S and Sigma are
            as predicted, or as measured where the theory says nothing of them.
        verdict: "agree", "disagree", "underpowered" or "out of regime".
        threshold: |z| above which an entry disagrees, corrected for all entries and rows.
        entries: how many distinct entries were tested.
        note: why, where the verdict alone does not say it.
    """

    quantity: str
    simulated: float
    stderr: float
    predicted: float
    z: float
    relative_error: float
    verdict: str
    threshold: float
    entries: int
    note: str = ""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Comparison(Table):
    """Verdicts of one comparison.

    Attributes:
        rows: one `Row` a quantity.
        entries: z-scores of every entry, by quantity: shape (), (D,) or (D, D).
        error_rate: probability that a correct prediction gets any "disagree".
        regime: why the result is out of the prediction's regime; empty when it is not.
        reference: the equation the prediction comes from.
        approximation: "exact", "hessian" or "continuous"; "as given" of a formula of one's own.
    """

    rows: list[Row]
    entries: dict[str, np.ndarray]
    error_rate: float
    regime: str
    reference: str
    approximation: str

    @property
    def agrees(self) -> bool:
        """Whether every row says "agree"."""
        return bool(self.rows) and all(row.verdict == AGREE for row in self.rows)

    @property
    def disagrees(self) -> bool:
        """Whether any row says "disagree" (an underpowered row says neither)."""
        return any(row.verdict == DISAGREE for row in self.rows)

    def to_dataframe(self) -> pd.DataFrame:
        """Return the rows as a `pandas.DataFrame` (needs `pip install 'sgdsim[data]'`)."""
        return need("pandas", "data").DataFrame([row._asdict() for row in self.rows], columns=list(Row._fields))

    def to_dict(self) -> dict[str, object]:
        """Plain Python numbers and strings, ready for JSON (numbers that are not finite become None)."""
        return {
            "rows": [row_to_dict(row) for row in self.rows],
            "agrees": self.agrees,
            "error_rate": self.error_rate,
            "regime": self.regime,
            "reference": self.reference,
            "approximation": self.approximation,
        }

    def _repr_html_(self) -> str:
        notes = [*self._notes(), *([f"reference: {self.reference}"] if self.reference else [])]
        return _html.table(self._title(), *self._cells(), notes=notes, strong=(DISAGREE,))

    def _cells(self) -> tuple[Cells, list[Cells]]:
        return HEADER, [format_row(row) for row in self.rows]

    def _title(self) -> str:
        return f"Comparison({count_verdicts(self.rows)}; {self.approximation})"

    def _notes(self) -> list[str]:
        return sorted({row.note for row in self.rows if row.note})


HEADER = ("quantity", "simulated", "stderr", "predicted", "z", "rel. error", "verdict")


def format_row(row: Row) -> tuple[str, ...]:
    """Return the cells of a row under `HEADER`, as short text."""
    return (
        row.quantity,
        f"{row.simulated:.5g}",
        f"{row.stderr:.2g}",
        f"{row.predicted:.5g}",
        f"{row.z:+.2f}" if math.isfinite(row.z) else str(row.z),
        f"{100 * row.relative_error:+.2f}%" if math.isfinite(row.relative_error) else "-",
        row.verdict,
    )


def count_verdicts(rows: Iterable[Row]) -> str:
    """Return how many rows say what, as text."""
    found = Counter(row.verdict for row in rows)
    return ", ".join(f"{number} {verdict}" for verdict, number in found.items()) or "nothing to compare"


def row_to_dict(row: Row) -> dict[str, str | float | None]:
    """Return a row as plain Python, ready for JSON."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row._asdict().items()
    }


def sidak_threshold(level: float, entries: int, dof: int) -> float:
    """Return the |t| that the largest of `entries` independent ones exceeds with probability `level`."""
    if dof < 1:
        return math.inf
    tail = -math.expm1(math.log1p(-level) / entries) / 2
    return float(-scipy.special.stdtrit(dof, tail))
