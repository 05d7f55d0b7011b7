"""What the page says in words and numbers, as HTML; everything is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from sgdsim.comparisons.comparison import AGREE, DISAGREE, HEADER, Row, format_row
from sgdsim.explore.model import Simulated, Theory

# Okabe and Ito's blue and vermillion; the word itself says the same without colour.
_VERDICTS = {AGREE: "#0072B2", DISAGREE: "#B34700"}
_OTHER = "#5c5c5c"
_STYLE = """<style>
.box { font: 14px/1.45 system-ui, sans-serif; color: #1a1a1a; }
.box table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.box th, .box td { padding: 1px 14px 1px 0; text-align: right; white-space: nowrap; }
.box th { border-bottom: 1px solid #4d4d4d; font-weight: 600; }
.box th:first-child, .box td:first-child, .box th:last-child, .box td:last-child { text-align: left; }
.box .note { color: #5c5c5c; margin: 4px 0 0; max-width: 1150px; }
.box .warn { border-left: 4px solid #D55E00; padding: 2px 0 2px 10px; }
.box .fine { border-left: 4px solid #0072B2; padding: 2px 0 2px 10px; }
</style>"""


def comparison(rows: Sequence[Row]) -> str:
    """The rows of a comparison with their notes."""
    if not rows:
        return _box('<p class="note">No comparison: there is no prediction to compare with.</p>')
    head = "".join(f"<th>{escape(name)}</th>" for name in HEADER)
    body = ""
    for row in rows:
        *cells, verdict = (escape(cell) for cell in format_row(row))
        color = _VERDICTS.get(row.verdict, _OTHER)
        plain = "".join(f"<td>{cell}</td>" for cell in cells)
        body += f'<tr>{plain}<td style="color:{color};font-weight:600">{verdict}</td></tr>'
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in dict.fromkeys(r.note for r in rows) if note)
    return _box(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}")


def standing(theory: Theory, left: str = "") -> str:
    """Where the learning rate stands; `left` is what remains past the mean-square limit."""
    limits = f"stability limit {theory.limit:.4g} (mean square), {theory.deterministic:.4g} (full batch)"
    place = f"learning rate {theory.learning_rate:.4g} = {theory.fraction:.3g} × the limit"
    if theory.laws:
        return _box(f'<div class="fine">{place}; {limits}.</div>')
    words = "At or past it the second moment does not exist and no covariance is predicted"
    words += f": {left}." if left else "; looking for the tail index …"
    return _box(f'<div class="warn">{place}; {limits}. {escape(words)}</div>')


def run(found: Simulated) -> str:
    """How the simulation went."""
    words = (
        f"{found.chains:,} chains, {found.steps:,} steps of which {found.burn_in:,} before measuring, "
        f"{found.seconds:.2f} s"
    )
    if found.diverged:
        words += f"; {found.diverged:,} chains diverged"
    return _box(f'<div class="note">{words}</div>')


def busy() -> str:
    """While the simulation runs."""
    return _box('<div class="note">simulating … (the first run of a kind is compiled: some seconds)</div>')


def problem(message: str) -> str:
    """What was wrong with a request, in the library's words."""
    return _box(f'<div class="warn" role="alert">{escape(message)}</div>')


def label(text: str) -> str:
    """The name of a group of buttons."""
    return _box(f"<b>{escape(text)}</b>")


def heading() -> str:
    """The top of the page."""
    return _box(
        "<b style='font-size:18px'>sgdsim explore</b><br>Linear regression in two dimensions, x ~ N(0, diag(a₁, a₂)), "
        "y ~ N(0, σ²), minimum at 0; SGD with fresh batches. Lines are theory, dots are simulated chains."
    )


def _box(content: str) -> str:
    return f'{_STYLE}<div class="box">{content}</div>'
