"""One self-contained HTML page of everything in an output folder."""

from __future__ import annotations

import base64
import html
import json
import os
import secrets
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from sgdsim import _checks
from sgdsim._version import __version__
from sgdsim.comparisons.comparison import AGREE, DISAGREE, HEADER, OUT, UNDERPOWERED, Row, format_row

Json: TypeAlias = dict[str, Any]  # as `write` has written it

STYLE = """
:root { --ink: #1a1a1a; --soft: #595959; --line: #d9d9d9; }
body { font: 16px/1.55 Georgia, 'Times New Roman', serif; color: var(--ink); background: #fff;
       max-width: 58rem; margin: 2.5rem auto; padding: 0 1.2rem; }
h1, h2, h3, th, nav, .verdict, .meta { font-family: system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; }
h1 { font-size: 1.8rem; margin-bottom: .2rem; } h2 { font-size: 1.3rem; margin: 3rem 0 .2rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
.meta { color: var(--soft); font-size: .85rem; }
nav ul { padding-left: 1.1rem; } a { color: #00588a; }
figure { margin: 1.2rem 0; } img { max-width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: .92rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { padding: .22rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; border-bottom: 1.5px solid var(--ink); }
th.text, td.text { text-align: left; white-space: normal; }
.verdict { font-weight: 600; white-space: nowrap; }
.agree { color: #00603f; } .disagree { color: #a3001f; } .underpowered, .out { color: #6b4b00; }
details { margin: .6rem 0; } summary { cursor: pointer; } pre { font-size: .78rem; white-space: pre-wrap; }
@media print { body { margin: 0; max-width: none; font-size: 11pt; } figure, tr { break-inside: avoid; }
  h2 { break-after: avoid; } details > summary { list-style: none; } nav { display: none; } }
"""
SYMBOL = {AGREE: "✓ agree", DISAGREE: "✗ disagree", UNDERPOWERED: "○ underpowered", OUT: "△ out of regime"}
TEXT_COLUMNS = ("setting", "quantity", "verdict", "reference")


def build_report(output: str | Path) -> Path:
    """Write output/report.html from every output/*/section.json and its figures.

    Returns:
        The path of the report.
    """
    output = _checks.path("output", output)
    # Hidden folders belong to runs that are still being written.
    found = [path for path in sorted(output.glob("*/section.json")) if not path.parent.name.startswith(".")]
    sections = [(path.parent, _read(path)) for path in found]
    verdicts = Counter(v["verdict"] for _, section in sections for v in section["verdicts"])
    counts = ", ".join(f"{verdicts[name]} {name}" for name in SYMBOL if verdicts[name]) or "none yet"
    contents = "".join(
        f'<li><a href="#{_text(s["id"])}">{_text(s["title"])}</a> '
        f'<span class="meta">{_text(_counts(s["verdicts"]))}</span></li>'
        for _, s in sections
    )
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>sgdsim: theory against simulation</title><style>{STYLE}</style></head><body>
<h1>Theory against simulation</h1>
<p class="meta">sgdsim {_text(__version__)} · {len(sections)} sections · verdicts: {_text(counts)}</p>
<p>Every number that was simulated is held against its prediction. <b>z</b> is the difference in standard errors,
which come from independent groups of chains. Thresholds are corrected for the number of entries, quantities
and points, so that a correct prediction meets any “disagree” in one section out of a thousand.
“Underpowered” says that the run cannot tell (too few chains, or tails so heavy that the standard
error itself is not known); “out of regime” that chains diverged or had not settled.</p>
<nav><ul>{contents}</ul></nav>
{"".join(_section(folder, section) for folder, section in sections)}
</body></html>
"""
    path = output / "report.html"
    partial = output / f".report-{secrets.token_hex(4)}.html"
    try:
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _read(path: Path) -> Json:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as damaged:
        remedy = f"delete the folder {path.parent.name}, or run it again"
        raise _checks.error("section", str(path), f"undamaged JSON ({damaged})", remedy) from None


def _section(folder: Path, section: Json) -> str:
    how = f"{section['reference']} · scale {section['scale']} · {section['seconds']:.1f} s"
    parts = [
        f'<section id="{_text(section["id"])}"><h2>{_text(section["title"])}</h2>',
        f'<p class="meta">{_text(how)}</p>',
        *(f"<p>{_text(sentence)}</p>" for sentence in section["summary"]),
    ]
    for figure in section["figures"]:
        image = base64.b64encode((folder / figure["file"]).read_bytes()).decode()
        caption = _text(figure["caption"])
        parts.append(
            f'<figure><img alt="{caption}" src="data:image/png;base64,{image}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    parts += [_table(t["title"], t["header"], t["rows"]) for t in section["tables"]]
    parts.append(_verdicts(section["verdicts"]))
    provenance = _text(json.dumps(section["provenance"], indent=1))
    parts.append(f"<details><summary>How it was made</summary><pre>{provenance}</pre></details></section>")
    return "\n".join(parts)


def _verdicts(verdicts: Sequence[Json]) -> str:
    if not verdicts:
        return ""
    rows = []
    for verdict in verdicts:
        row = to_row(verdict)
        cells = [verdict["setting"], *format_row(row)]
        body = "".join(
            _cell("td", cell, name) for cell, name in zip(cells[:-1], ("setting", *HEADER[:-1]), strict=True)
        )
        kind = row.verdict.split(maxsplit=1)[0]
        rows.append(
            f'<tr>{body}<td class="text"><span class="verdict {kind}" title="{_text(row.note)}">'
            f"{SYMBOL[row.verdict]}</span></td></tr>"
        )
    head = "".join(_cell("th", name, name) for name in ("setting", *HEADER))
    notes = sorted({v["note"] for v in verdicts if v["note"]})
    below = "".join(f'<p class="meta">{_text(note)}</p>' for note in notes)
    return (
        f'<h3>Verdicts</h3><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{below}"
    )


def to_row(verdict: Json) -> Row:
    """Return the row that `row_to_dict` wrote."""
    values = {name: verdict[name] for name in Row._fields}
    for name in ("simulated", "stderr", "predicted", "z", "relative_error", "threshold"):
        values[name] = float("nan") if values[name] is None else values[name]
    return Row(**values)


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(_cell("th", name, name) for name in header)
    body = "".join(f"<tr>{''.join(_cell('td', c, n) for c, n in zip(row, header, strict=True))}</tr>" for row in rows)
    return (
        f'<h3>{_text(title)}</h3><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(tag: str, content: object, column: str) -> str:
    kind = ' class="text"' if column in TEXT_COLUMNS else ""
    return f"<{tag}{kind}>{_text(content)}</{tag}>"


def _counts(verdicts: Sequence[Json]) -> str:
    found = Counter(v["verdict"] for v in verdicts)
    return ", ".join(f"{found[name]} {name}" for name in SYMBOL if found[name])


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
