"""`sgdsim analyze`, `design` and `run`: a user's own data, a user's own file."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import typer
from rich.markup import escape

from sgdsim import _checks
from sgdsim.cli.devices import check_folder, compile_quickly, use_devices
from sgdsim.cli.one_line import stopping_at_once
from sgdsim.cli.printing import Finished, console, finish, show, show_counts
from sgdsim.experiments.framework.findings import Findings, Verdict
from sgdsim.workflows import analyze as analyze_table
from sgdsim.workflows import design_table
from sgdsim.workflows.run_example import EXAMPLE
from sgdsim.workflows.run_file import Outcome, run_file

Number = TypeVar("Number", int, float)


def analyze(table: str, target: str | None, batch_sizes: str | None, learning_rates: str | None, standardize: bool,
            intercept: bool, output: Path, hosts: bool, as_json: bool) -> None:
    """Analyse SGD on a regression table and print what was found."""
    sizes = _numbers("--batch-sizes", batch_sizes, int, "whole numbers, such as 4,16,64")
    rates = _numbers("--learning-rates", learning_rates, float, "numbers, such as 0.01,0.1")
    check_folder(output)
    compile_quickly()
    output = use_devices(hosts, output)
    start = time.perf_counter()
    with stopping_at_once():
        findings = analyze_table(
            table,
            target,
            batch_sizes=sizes,
            learning_rates=rates,
            standardize=standardize,
            intercept=intercept,
            output=output,
        )
    finish({"analyze": Finished(findings, time.perf_counter() - start)}, output, as_json)


def design(table: str, target: str | None, steps: int, examples: int | None, batch_size: int | None,
           momentum: float | None, standardize: bool, intercept: bool, output: Path, as_json: bool) -> None:
    """Design a schedule for a regression table and print what it reaches."""
    check_folder(output)
    compile_quickly()
    output = use_devices(False, output)
    start = time.perf_counter()
    with stopping_at_once():
        findings = design_table(table, target, steps=steps, examples=examples, batch_size=batch_size,
                                momentum=momentum, standardize=standardize, intercept=intercept, output=output)
    finish({"design": Finished(findings, time.perf_counter() - start)}, output, as_json)


def run(file: Path | None, output: Path | None, hosts: bool, as_json: bool) -> None:
    """Run the experiment that a TOML file describes and print what came out."""
    if file is None:
        raise _checks.error("FILE", None, "a TOML file", "print one with `sgdsim run --example`")
    outcome = run_file(file, use_devices(hosts, output))
    if as_json:
        print(json.dumps(outcome.to_dict(), indent=1))
    else:
        _show(file.stem, outcome)
    if outcome.interrupted:
        print(f"sgdsim: interrupted; what was measured is in {outcome.folder}", file=sys.stderr)
        raise typer.Exit(130)
    if outcome.disagrees:
        raise typer.Exit(1)


def print_example(as_json: bool) -> None:
    """Print a commented file that runs."""
    print(json.dumps({"example": EXAMPLE}) if as_json else EXAMPLE, end="\n" if as_json else "")


def _numbers(option: str, text: str | None, kind: Callable[[str], Number], allowed: str) -> list[Number] | None:
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise _checks.error(option, text, allowed, "separate them by commas, without spaces") from None


def _show(name: str, outcome: Outcome) -> None:
    held = [(point.setting, point.comparison) for point in outcome.points if point.comparison is not None]
    verdicts = [Verdict(setting or name, row) for setting, comparison in held for row in comparison.rows]
    findings = Findings(verdicts, {}, [], summary=[point.sentence() for point in outcome.points])
    out = console()
    show(out, name, Finished(findings, outcome.seconds))
    if verdicts:
        show_counts(out, [findings])
    out.print(f"result and provenance: {escape(str(outcome.folder))}", highlight=False)
