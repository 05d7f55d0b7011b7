"""Findings and verdicts, printed."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sgdsim.comparisons.comparison import AGREE, DISAGREE, HEADER, OUT, UNDERPOWERED, format_row, row_to_dict
from sgdsim.experiments.framework.findings import Findings

COLORS = {AGREE: "green", DISAGREE: "bold red", UNDERPOWERED: "yellow", OUT: "yellow"}


class Finished(NamedTuple):
    """What was found, and how long it took."""

    findings: Findings
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """What was found, ready for JSON."""
        return {
            "seconds": round(self.seconds, 2),
            "summary": list(self.findings.summary),
            "verdicts": [{"setting": v.setting, **row_to_dict(v.row)} for v in self.findings.verdicts],
            "disagrees": self.findings.disagrees,
        }


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Rich would end the program with exit code 1, which says that a number disagrees."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def console() -> Console:
    """Standard output; wide where no terminal says how wide."""
    return _Console(soft_wrap=False, width=None if sys.stdout.isatty() else 140)


def finish(done: Mapping[str, Finished], output: Path, as_json: bool) -> None:
    """Print what was found; exit code 1 if a number disagrees with theory."""
    disagrees = any(one.findings.disagrees for one in done.values())
    report = str(output.expanduser() / "report.html")
    if as_json:
        experiments = {name: one.to_dict() for name, one in done.items()}
        print(json.dumps({"experiments": experiments, "disagrees": disagrees, "report": report}, indent=1))
    else:
        out = console()
        for name, one in done.items():
            show(out, name, one)
        show_counts(out, [one.findings for one in done.values()])
        out.print(f"figures, data and report: {escape(report)}", highlight=False)
    if disagrees:
        raise typer.Exit(1)


def show(out: Console, name: str, done: Finished) -> None:
    """Sentences, tables and verdicts of one experiment."""
    findings = done.findings
    out.print(f"\n[bold]{escape(name)}[/bold] [dim]{done.seconds:.1f} s[/dim]")
    for sentence in findings.summary:
        out.print(escape(sentence), highlight=False)
    for extra in findings.tables:
        out.print(_table(extra.title, extra.header, extra.rows))
    if findings.verdicts:
        out.print(_verdict_table(findings))
    for note in sorted({v.row.note for v in findings.verdicts if v.row.note}):
        out.print(f"[dim]note: {escape(note)}[/dim]", highlight=False)


def show_counts(out: Console, found: Sequence[Findings]) -> None:
    """How many verdicts there are of each kind."""
    verdicts = [row.verdict for findings in found for _, row in findings.verdicts]
    counts = (f"[{COLORS[name]}]{verdicts.count(name)} {name}[/]" for name in COLORS if name in verdicts)
    out.print("\n[bold]verdicts:[/bold] " + ", ".join(counts))


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, header_style="bold", title=title, title_justify="left", title_style="italic")
    for i, name in enumerate(header):
        table.add_column(escape(name), justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def _verdict_table(findings: Findings) -> Table:
    table = Table(box=None, header_style="bold", title="verdicts", title_justify="left", title_style="italic")
    for name in ("setting", *HEADER):
        table.add_column(name, justify="left" if name in ("setting", "quantity", "verdict") else "right", no_wrap=True)
    for setting, row in findings.verdicts:
        *cells, verdict = format_row(row)
        table.add_row(escape(setting), *(escape(c) for c in cells), f"[{COLORS[verdict]}]{verdict}[/]")
    return table
