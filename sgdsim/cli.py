"""The command line: argument parsing and printing only."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

import sgdsim as ss
from sgdsim import _checks
from sgdsim._version import __version__
from sgdsim.comparison import AGREE, DISAGREE, HEADER, OUT, UNDERPOWERED, format_row, row_to_dict
from sgdsim.experiments import analyze as run_analysis
from sgdsim.experiments import list_experiments, run_several
from sgdsim.experiments._run_example import EXAMPLE
from sgdsim.experiments.findings import SCALES, Findings, Verdict
from sgdsim.experiments.registry import find
from sgdsim.experiments.run_file import Outcome, run_file

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Run many SGD trainings at once and hold every number against theory.",
    epilog="Exit codes: 0 done, no number disagrees with theory; 1 a number disagrees; "
    "2 something that was given is wrong or missing; 130 interrupted.",
)
COLORS = {AGREE: "green", DISAGREE: "bold red", UNDERPOWERED: "yellow", OUT: "yellow"}
EXTRAS = {
    "plots": ("matplotlib",),
    "data": ("pandas", "sklearn"),
    "results": ("xarray", "h5netcdf", "h5py"),
    "diagnostics": ("arviz",),
    "checkpoint": ("orbax.checkpoint",),
    "cli": ("typer", "rich"),
    "notebook": ("ipywidgets",),
    "explore": ("bokeh",),
}
PACKAGES = ("sgdsim", "jax", "jaxlib", "optax", "flax", "numpy", "scipy")

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for figures, data and report.html.")]
Hosts = Annotated[bool, typer.Option("--hosts", help="Join the other processes of a cluster first.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def _fail(message: Any) -> typer.Exit:
    print("sgdsim: error:", " ".join(str(message).split()), file=sys.stderr)
    return typer.Exit(2)


class _Stopped(BaseException):
    """Ctrl-C, where the engine shall not take it for a wish to see what there is so far."""


def _one_line(command: Callable[..., None]) -> Callable[..., None]:
    """Turn what a user can put right into one line and exit code 2, and Ctrl-C into one line and 130."""

    @functools.wraps(command)
    def wrapper(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except (ValueError, ImportError, OSError, NotImplementedError) as wrong:
            raise _fail(wrong) from None
        except (KeyboardInterrupt, _Stopped):
            print("sgdsim: interrupted", file=sys.stderr)
            raise typer.Exit(130) from None

    return wrapper


@contextlib.contextmanager
def _stopping_at_once() -> Iterator[None]:
    """Within it Ctrl-C ends the command, not only the simulation that happens to run."""

    def stop(*_: Any) -> None:
        raise _Stopped

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set a handler
        yield
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _complete_ids(incomplete: str) -> list[tuple[str, str]]:
    return [(e.id, e.title) for e in list_experiments() if e.id.startswith(incomplete)]


def _complete_scales(incomplete: str) -> list[str]:
    return [name for name in SCALES if name.startswith(incomplete)]


def _compile_quickly() -> None:
    """Short runs spend most of their time in the compiler: leave its expensive passes out, unless XLA_FLAGS is set."""
    os.environ.setdefault("XLA_FLAGS", "--xla_llvm_disable_expensive_passes=true")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"sgdsim {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run many SGD trainings at once and hold every number against theory."""


@app.command("list")
@_one_line
def list_command(as_json: AsJson = False) -> None:
    """List the published figures and tables that can be reproduced."""
    found = list_experiments()
    if as_json:
        print(json.dumps([{"id": e.id, "title": e.title, "reference": e.reference} for e in found], indent=1))
        return
    table = Table("id", "what it shows", "published in", box=None, header_style="bold")
    for e in found:
        table.add_row(e.id, e.title, e.reference)
    _console().print(table)


@app.command()
@_one_line
def reproduce(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID...", help="Names from `sgdsim list`.", autocompletion=_complete_ids),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every experiment.")] = False,
    scale: Annotated[
        str, typer.Option(help="smoke (seconds), laptop (minutes) or full.", autocompletion=_complete_scales)
    ] = "smoke",
    output: Output = Path("output"),
    hosts: Hosts = False,
    as_json: AsJson = False,
) -> None:
    """Reproduce published figures; exit code 1 if a number disagrees with theory."""
    if not ids and not everything:
        raise _checks.error("ID", "", "the name of an experiment, or --all", "see `sgdsim list`")
    _checks.choice("scale", scale, SCALES)
    chosen = [e.id for e in list_experiments()] if everything else [find(name).id for name in ids or []]
    _check_folder(output)
    if scale == "smoke":
        _compile_quickly()
    output = _use_devices(hosts, output)
    done: dict[str, tuple[Findings, float]] = {}
    with _stopping_at_once(), _progress() as progress:
        task = progress.add_task("experiments", total=len(chosen))
        for name, findings, seconds in run_several(chosen, scale, output):
            done[name] = findings, seconds
            progress.update(task, description=f"{name} done", advance=1)
    _finish({name: done[name] for name in chosen}, output, as_json)


@app.command("analyze")
@_one_line
def analyze_command(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A CSV file with a header, or `diabetes`.")],
    target: Annotated[str | None, typer.Option(help="The column to predict.")] = None,
    batch_sizes: Annotated[str | None, typer.Option(help="Such as 4,16,64; by default 4,16,32.")] = None,
    learning_rates: Annotated[
        str | None, typer.Option(help="Such as 0.01,0.1; by default 0.35 and 0.5 of the smallest limit.")
    ] = None,
    standardize: Annotated[bool, typer.Option(help="Give columns mean 0 and standard deviation 1.")] = True,
    intercept: Annotated[bool, typer.Option(help="Append a column of ones.")] = True,
    output: Output = Path("output"),
    hosts: Hosts = False,
    as_json: AsJson = False,
) -> None:
    """Analyse SGD on your own regression table; exit code 1 if a number disagrees with theory."""
    sizes = _numbers("--batch-sizes", batch_sizes, int, "whole numbers, such as 4,16,64")
    rates = _numbers("--learning-rates", learning_rates, float, "numbers, such as 0.01,0.1")
    _check_folder(output)
    _compile_quickly()
    output = _use_devices(hosts, output)
    start = time.perf_counter()
    with _stopping_at_once():
        findings = run_analysis(
            table,
            target,
            batch_sizes=sizes,
            learning_rates=rates,
            standardize=standardize,
            intercept=intercept,
            output=output,
        )
    _finish({"analyze": (findings, time.perf_counter() - start)}, output, as_json)


@app.command("run")
@_one_line
def run_command(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A TOML file; see --example.")] = None,
    example: Annotated[bool, typer.Option("--example", help="Print a commented file that runs.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write to, instead of the file's own.")
    ] = None,
    hosts: Hosts = False,
    as_json: AsJson = False,
) -> None:
    """Run the experiment that a TOML file describes; exit code 1 if a number disagrees with theory."""
    if example:
        print(json.dumps({"example": EXAMPLE}) if as_json else EXAMPLE, end="\n" if as_json else "")
        return
    if file is None:
        raise _checks.error("FILE", None, "a TOML file", "print one with `sgdsim run --example`")
    outcome = run_file(file, _use_devices(hosts, output))
    if as_json:
        print(json.dumps(outcome.to_dict(), indent=1))
    else:
        _show_outcome(file.stem, outcome)
    if outcome.interrupted:
        print(f"sgdsim: interrupted; what was measured is in {outcome.folder}", file=sys.stderr)
        raise typer.Exit(130)
    if outcome.disagrees:
        raise typer.Exit(1)


@app.command()
@_one_line
def bench(as_json: AsJson = False) -> None:
    """Measure speed and memory against hand-written loops (needs a source checkout)."""
    runner = Path(__file__).resolve().parent.parent / "bench" / "run.py"
    if not runner.is_file():
        raise ValueError(
            f"there is no {runner}; the bench lives in the source checkout: git clone it, then `make bench`"
        )
    table = 2 if as_json else None  # the file descriptor of standard error
    code = subprocess.run([sys.executable, str(runner)], check=False, stdout=table).returncode
    if as_json and code == 0:
        print((runner.parent / "results.json").read_text(encoding="utf-8"), end="")
    raise typer.Exit(code)


@app.command()
@_one_line
def explore(
    port: Annotated[int, typer.Option(help="On 127.0.0.1; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    chains: Annotated[int, typer.Option(help="Of each simulation, 256 to 16384.")] = 4096,
) -> None:
    """Open a local page with sliders: exact theory, approximations, and a live simulation beside them."""
    _checks.need("bokeh", "explore")
    from sgdsim.explore.server import serve

    _compile_quickly()
    ss.use_all_cores()
    serve(port=port, browser=browser, chains=chains, announce=functools.partial(print, flush=True))


@app.command()
@_one_line
def doctor(as_json: AsJson = False) -> None:
    """Say what sgdsim runs on: versions, devices, number type, cores, extras."""
    facts = _facts()
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    table = Table(box=None, show_header=False)
    for name, value in facts.items():
        if isinstance(value, dict):
            for key, item in value.items():
                table.add_row(escape(f"{name} {key}"), escape(str(item)))
        else:
            table.add_row(name, escape(", ".join(value) if isinstance(value, list) else str(value)))
    _console().print(table)


def _facts() -> dict[str, Any]:
    ss.use_all_cores()
    jax = importlib.import_module("jax")
    missing = {extra: [m for m in modules if importlib.util.find_spec(m) is None] for extra, modules in EXTRAS.items()}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "backend": jax.default_backend(),
        "devices": [str(device) for device in jax.devices()],
        "cores": cores,
        "dtype": "float64" if jax.config.jax_enable_x64 else "float32",
        "extra": {
            extra: "present" if not names else f"missing {', '.join(names)}: pip install 'sgdsim[{extra}]'"
            for extra, names in missing.items()
        },
    }


def _numbers(option: str, text: str | None, kind: Callable[[str], Any], allowed: str) -> list[Any] | None:
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise _checks.error(option, text, allowed, "separate them by commas, without spaces") from None


def _use_devices(hosts: bool, output: Any) -> Any:
    """Start on every core, with `hosts` of every process; where to write. Only the first process says anything."""
    if hosts:
        ss.use_all_hosts()
    ss.use_all_cores()
    if not hosts or importlib.import_module("jax").process_index() == 0:
        return output
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    discarded = tempfile.mkdtemp(prefix="sgdsim-")
    atexit.register(shutil.rmtree, discarded, ignore_errors=True)
    return Path(discarded)


def _check_folder(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise _checks.error("--output", str(output), "a folder", "choose another name")


def _console(stderr: bool = False) -> Console:
    return Console(stderr=stderr, soft_wrap=False, width=None if sys.stdout.isatty() else 140)


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


def _finish(done: dict[str, tuple[Findings, float]], output: Path, as_json: bool) -> None:
    disagrees = any(findings.disagrees for findings, _ in done.values())
    if as_json:
        content = {name: _plain(findings, seconds) for name, (findings, seconds) in done.items()}
        report = str(output / "report.html")
        print(json.dumps({"experiments": content, "disagrees": disagrees, "report": report}, indent=1))
    else:
        console = _console()
        for name, (findings, seconds) in done.items():
            _show(console, name, findings, seconds)
        _show_counts(console, [findings for findings, _ in done.values()])
        console.print(f"figures, data and report: {escape(str(output / 'report.html'))}", highlight=False)
    if disagrees:
        raise typer.Exit(1)


def _show_outcome(name: str, outcome: Outcome) -> None:
    """What a run file led to."""
    console = _console()
    held = [(point.setting, point.comparison) for point in outcome.points if point.comparison is not None]
    verdicts = [Verdict(setting or name, row) for setting, comparison in held for row in comparison.rows]
    findings = Findings(verdicts, {}, [], summary=[point.sentence() for point in outcome.points])
    _show(console, name, findings, outcome.seconds)
    if verdicts:
        _show_counts(console, [findings])
    console.print(f"result and provenance: {escape(str(outcome.folder))}", highlight=False)


def _show(console: Console, name: str, findings: Findings, seconds: float) -> None:
    console.print(f"\n[bold]{escape(name)}[/bold] [dim]{seconds:.1f} s[/dim]")
    for sentence in findings.summary:
        console.print(escape(sentence), highlight=False)
    for extra in findings.tables:
        console.print(_rich(extra.title, extra.header, extra.rows))
    if findings.verdicts:
        console.print(_verdict_table(findings))
    for note in sorted({v.row.note for v in findings.verdicts if v.row.note}):
        console.print(f"[dim]note: {escape(note)}[/dim]", highlight=False)


def _show_counts(console: Console, found: Sequence[Findings]) -> None:
    verdicts = [row.verdict for findings in found for _, row in findings.verdicts]
    counts = (f"[{COLORS[name]}]{verdicts.count(name)} {name}[/]" for name in COLORS if name in verdicts)
    console.print("\n[bold]verdicts:[/bold] " + ", ".join(counts))


def _plain(findings: Findings, seconds: float) -> dict[str, Any]:
    return {
        "seconds": round(seconds, 2),
        "summary": list(findings.summary),
        "verdicts": [{"setting": v.setting, **row_to_dict(v.row)} for v in findings.verdicts],
        "disagrees": findings.disagrees,
    }


def _rich(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
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
