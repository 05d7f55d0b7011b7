"""Small tables for notebooks: escaped, without colours of their own, so that they follow a light or a dark theme."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_CELL = "padding:0.15em 0.7em;text-align:{align};vertical-align:top;max-width:34em;overflow-wrap:anywhere"
_LINE = "border-bottom:1px solid currentColor"
_NUMBER_STARTS = frozenset("+-.0123456789")


def table(
    title: str,
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    notes: Iterable[str] = (),
    strong: Iterable[str] = (),
) -> str:
    """Rows of text under a header as HTML.

    Args:
        title: shown above the table.
        header: names of the columns.
        rows: cells; each becomes text.
        notes: lines below the table.
        strong: texts of cells that are printed bold.
    """
    bold = set(strong)
    lines = [f"<div><p style='margin:0 0 0.3em 0'><strong>{escape(title)}</strong></p>"]
    lines.append("<table style='border-collapse:collapse;margin:0'><thead><tr>")
    lines += [f"<th style='{_CELL.format(align='left')};{_LINE}'>{escape(name)}</th>" for name in header]
    lines.append("</tr></thead><tbody>")
    for row in rows:
        lines.append("<tr>" + "".join(_cell(str(value), bold) for value in row) + "</tr>")
    lines.append("</tbody></table>")
    lines += [f"<p style='margin:0.3em 0 0 0;opacity:0.75'>{escape(note)}</p>" for note in notes if note]
    return "\n".join([*lines, "</div>"])


def _cell(text: str, bold: set[str]) -> str:
    align = "right" if text[:1] in _NUMBER_STARTS else "left"
    inner = f"<strong>{escape(text)}</strong>" if text in bold else escape(text)
    return f"<td style='{_CELL.format(align=align)}'>{inner}</td>"
