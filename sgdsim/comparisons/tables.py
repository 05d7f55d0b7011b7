"""Tables of text cells: plain, Markdown, LaTeX, HTML."""

from __future__ import annotations

import abc
import re
from collections.abc import Sequence

from sgdsim import _html

Cells = Sequence[str]


class Table(abc.ABC):
    """What can be shown as rows of text under a header, with a title above and notes below."""

    _strong: Sequence[str] = ()  # cells that are printed bold

    @abc.abstractmethod
    def _cells(self) -> tuple[Cells, list[Cells]]:
        """The header, and the rows."""

    @abc.abstractmethod
    def _title(self) -> str: ...

    @abc.abstractmethod
    def _notes(self) -> list[str]: ...

    def table(self) -> str:
        """Return a plain-text table."""
        header, body = self._cells()
        widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]
        right = _numbers(body, len(header))
        lines = [header, tuple("-" * width for width in widths), *body]
        text = "\n".join(
            "  ".join(
                cell.rjust(width) if number else cell.ljust(width)
                for cell, width, number in zip(line, widths, right, strict=True)
            ).rstrip()
            for line in lines
        )
        return "\n".join([text, *(f"note: {note}" for note in self._notes())])

    def to_markdown(self) -> str:
        """Return the same table as GitHub-flavoured Markdown, notes below."""
        header, body = self._cells()
        align = ["---:" if number else "---" for number in _numbers(body, len(header))]
        escaped = [[cell.translate(_MARKDOWN) for cell in line] for line in body]
        lines = [f"| {' | '.join(line)} |" for line in [header, align, *escaped]]
        return "\n".join([*lines, *(f"\nNote: {note.translate(_MARKDOWN)}" for note in self._notes())])

    def to_latex(self) -> str:
        r"""Return the same table for LaTeX: a `tabular` with the rules of the package booktabs, notes as comments."""
        header, body = self._cells()
        align = "".join("r" if number else "l" for number in _numbers(body, len(header)))
        lines = ["% \\usepackage{booktabs}", f"\\begin{{tabular}}{{{align}}}", "\\toprule"]
        lines += [" & ".join(map(latex, header)) + r" \\", "\\midrule"]
        rows = [" & ".join(map(latex, line)) + r" \\" for line in body]
        lines += ["{}" + row if row.startswith("[") else row for row in rows]  # else an option of the \\ before it
        notes = [f"% note: {' '.join(note.split())}" for note in self._notes()]
        return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", *notes])

    def __repr__(self) -> str:
        return f"{self._title()}\n{self.table()}"

    def _repr_html_(self) -> str:
        header, body = self._cells()
        return _html.table(self._title(), header, body, notes=self._notes(), strong=self._strong)


_MARKDOWN = str.maketrans({"|": r"\|", "\\": r"\\", "*": r"\*", "`": r"\`", "<": "&lt;", "\n": " "})
_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"}
    | {"|": "$|$", "\n": " "}
)
_NUMBER = re.compile(r"([+-]?)(\d+(?:\.\d+)?)(?:e([+-]?\d+))?(%?)$")
_NO_NUMBER = {"-", "inf", "-inf", "nan", ""}


def _numbers(body: Sequence[Cells], columns: int) -> list[bool]:
    """Which columns hold numbers, to be set to the right."""
    return [all(_NUMBER.match(line[i]) or line[i] in _NO_NUMBER for line in body) and i > 0 for i in range(columns)]


def latex(cell: str) -> str:
    """Return a cell for LaTeX: numbers in mathematics, with powers of ten; everything special escaped."""
    number = _NUMBER.match(cell)
    if number is None:
        return {"inf": r"$\infty$", "-inf": r"$-\infty$"}.get(cell) or cell.translate(_LATEX)
    sign, digits, power, percent = number.groups()
    exponent = rf" \times 10^{{{int(power)}}}" if power else ""
    return f"${sign}{digits}{exponent}$" + percent.translate(_LATEX)
