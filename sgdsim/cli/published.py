"""`sgdsim list` and `sgdsim reproduce`: the published figures and tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from sgdsim import _checks
from sgdsim.cli.devices import check_folder, compile_quickly, use_devices
from sgdsim.cli.one_line import stopping_at_once
from sgdsim.cli.printing import Finished, console, finish
from sgdsim.experiments import list_experiments, run_several
from sgdsim.experiments.framework.findings import SCALES
from sgdsim.experiments.framework.registry import find


def print_list(as_json: bool) -> None:
    """Print the names, titles and references of all experiments."""
    found = list_experiments()
    if as_json:
        print(json.dumps([{"id": e.id, "title": e.title, "reference": e.reference} for e in found], indent=1))
        return
    table = Table("id", "what it shows", "published in", box=None, header_style="bold")
    for e in found:
        table.add_row(e.id, e.title, e.reference)
    console().print(table)


def reproduce(
    ids: Sequence[str], everything: bool, scale: str, output: Path, hosts: bool, as_json: bool,
    inputs: Mapping[str, str] = {},
) -> None:
    """Run experiments and print what they found."""
    if not ids and not everything:
        raise _checks.error("ID", "", "the name of an experiment, or --all", "see `sgdsim list`")
    _checks.choice("scale", scale, SCALES)
    chosen = [e.id for e in list_experiments()] if everything else [find(name).id for name in ids]
    for name in chosen:
        find(name).check(inputs)
    check_folder(output)
    if scale == "smoke":
        compile_quickly()
    output = use_devices(hosts, output)
    done: dict[str, Finished] = {}
    with stopping_at_once(), _progress() as progress:
        task = progress.add_task("experiments", total=len(chosen))
        for name, findings, seconds in run_several(chosen, scale, output, inputs):
            done[name] = Finished(findings, seconds)
            progress.update(task, description=f"{name} done", advance=1)
    finish({name: done[name] for name in chosen}, output, as_json)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
