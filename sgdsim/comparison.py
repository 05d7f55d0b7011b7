"""What a comparison hands back: rows with verdicts, as text, Markdown, LaTeX, HTML, a data frame, plain data."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any, NamedTuple

import numpy as np

from sgdsim import _html
from sgdsim._checks import need

AGREE, DISAGREE, UNDERPOWERED, OUT = "agree", "disagree", "underpowered", "out of regime"


class Row(NamedTuple):
    """One compared quantity; for a vector or matrix, its entry with the largest |z|.

    Attributes:
        quantity: name, with the index of the shown entry, as in ``covariance[0,1]``.
        simulated: measured value of that entry.
        stderr: its standard error, from independent groups of chains.
        predicted: its predicted value.
        z: (simulated - predicted) / stderr; of an approximate theory, what exceeds its own error.
        relative_error: (simulated - predicted) / scale, the scale being |predicted| for losses,
            sqrt(S_ii S_jj) for entry ij of a covariance S and sqrt(Sigma_ii) for the mean.
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
class Comparison:
    """Verdicts of one comparison.

    Attributes:
        rows: one `Row` a quantity.
        entries: z-scores of every entry, by quantity: shape (), (D,) or (D, D).
        error_rate: probability that a correct prediction gets any "disagree".
        regime: why the result is out of the prediction's regime; empty when it is not.
        reference: the equation the prediction comes from.
        approximation: "exact", "hessian" or "continuous".
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

    def table(self) -> str:
        """Return a plain-text table."""
        body = [format_row(row) for row in self.rows]
        widths = [max(len(line[i]) for line in [HEADER, *body]) for i in range(len(HEADER))]
        lines = [HEADER, tuple("-" * width for width in widths), *body]
        text = "\n".join(
            "  ".join(
                cell.ljust(width) if i in (0, len(widths) - 1) else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )
        return "\n".join([text, *(f"note: {note}" for note in self._notes())])

    def to_markdown(self) -> str:
        """Return the same table as GitHub-flavoured Markdown, notes below."""
        align = ["---", *["---:"] * (len(HEADER) - 2), "---"]
        body = [[cell.translate(_MARKDOWN) for cell in format_row(row)] for row in self.rows]
        lines = [f"| {' | '.join(line)} |" for line in [HEADER, align, *body]]
        return "\n".join([*lines, *(f"\nNote: {note.translate(_MARKDOWN)}" for note in self._notes())])

    def to_latex(self) -> str:
        r"""Return the same table for LaTeX: a `tabular` with the rules of the package booktabs, notes as comments."""
        lines = ["% \\usepackage{booktabs}", "\\begin{tabular}{lrrrrrl}", "\\toprule"]
        lines += [" & ".join(map(latex, HEADER)) + r" \\", "\\midrule"]
        rows = [" & ".join(map(latex, format_row(row))) + r" \\" for row in self.rows]
        lines += ["{}" + row if row.startswith("[") else row for row in rows]  # else an option of the \\ before it
        notes = [f"% note: {' '.join(note.split())}" for note in self._notes()]
        return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", *notes])

    def to_dataframe(self) -> Any:
        """Return the rows as a `pandas.DataFrame` (needs `pip install 'sgdsim[data]'`)."""
        return need("pandas", "data").DataFrame([row._asdict() for row in self.rows], columns=list(Row._fields))

    def to_dict(self) -> dict[str, Any]:
        """Plain Python numbers and strings, ready for JSON (numbers that are not finite become None)."""
        return {
            "rows": [row_to_dict(row) for row in self.rows],
            "agrees": self.agrees,
            "error_rate": self.error_rate,
            "regime": self.regime,
            "reference": self.reference,
            "approximation": self.approximation,
        }

    def __repr__(self) -> str:
        return f"{self._title()}\n{self.table()}"

    def _repr_html_(self) -> str:
        notes = (*self._notes(), f"reference: {self.reference}")
        strong = (DISAGREE,)
        return _html.table(self._title(), HEADER, map(format_row, self.rows), notes=notes, strong=strong)

    def _title(self) -> str:
        verdicts = [row.verdict for row in self.rows]
        counts = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
        return f"Comparison({counts or 'nothing to compare'}; {self.approximation})"

    def _notes(self) -> list[str]:
        return sorted({row.note for row in self.rows if row.note})


_MARKDOWN = str.maketrans({"|": r"\|", "\\": r"\\", "*": r"\*", "`": r"\`", "<": "&lt;", "\n": " "})
_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"}
    | {"|": "$|$", "\n": " "}
)
_NUMBER = re.compile(r"([+-]?)(\d+(?:\.\d+)?)(?:e([+-]?\d+))?(%?)$")
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


def latex(cell: str) -> str:
    """Return a cell for LaTeX: numbers in mathematics, with powers of ten; everything special escaped."""
    number = _NUMBER.match(cell)
    if number is None:
        return {"inf": r"$\infty$", "-inf": r"$-\infty$"}.get(cell) or cell.translate(_LATEX)
    sign, digits, power, percent = number.groups()
    exponent = rf" \times 10^{{{int(power)}}}" if power else ""
    return f"${sign}{digits}{exponent}$" + percent.translate(_LATEX)


def row_to_dict(row: Row) -> dict[str, Any]:
    """Return a row as plain Python, ready for JSON."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row._asdict().items()
    }
