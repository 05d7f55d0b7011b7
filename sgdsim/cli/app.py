"""The command line: its commands and options. What a command does is imported when it is called, not for its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sgdsim._version import __version__
from sgdsim.cli import complete
from sgdsim.cli.one_line import one_line

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Run many SGD trainings at once and hold every number against theory.",
    epilog="Exit codes: 0 done, no number disagrees with theory; 1 a number disagrees; "
    "2 something that was given is wrong or missing; 130 interrupted.",
)

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for figures, data and report.html.")]
Hosts = Annotated[bool, typer.Option("--hosts", help="Join the other processes of a cluster first.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@one_line
def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"sgdsim {__version__}", flush=True)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run many SGD trainings at once and hold every number against theory."""


@app.command("list")
@one_line
def list_command(as_json: AsJson = False) -> None:
    """List the published figures and tables that can be reproduced."""
    from sgdsim.cli.published import print_list

    print_list(as_json)


@app.command()
@one_line
def reproduce(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID...", help="Names from `sgdsim list`.", autocompletion=complete.experiments),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every experiment.")] = False,
    scale: Annotated[
        str, typer.Option(help="smoke (seconds), laptop (minutes) or full.", autocompletion=complete.scales)
    ] = "smoke",
    table: Annotated[str | None, typer.Option(help="Your own CSV, for experiments on the diabetes table.")] = None,
    target: Annotated[str | None, typer.Option(help="Its column to predict.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Your own images, for experiments on digits: an .npz file as MNIST's.")
    ] = None,
    output: Output = Path("output"),
    hosts: Hosts = False,
    as_json: AsJson = False,
) -> None:
    """Reproduce published figures; exit code 1 if a number disagrees with theory."""
    from sgdsim.cli import published

    given = {name: value for name, value in (("table", table), ("target", target), ("data", data)) if value is not None}
    published.reproduce(ids or [], everything, scale, output, hosts, as_json, given)


@app.command()
@one_line
def analyze(
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
    from sgdsim.cli import own

    own.analyze(table, target, batch_sizes, learning_rates, standardize, intercept, output, hosts, as_json)


@app.command()
@one_line
def design(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A CSV file with a header, or `diabetes`.")],
    steps: Annotated[int, typer.Option(help="Optimizer steps of the run.")],
    target: Annotated[str | None, typer.Option(help="The column to predict.")] = None,
    examples: Annotated[
        int | None, typer.Option(help="Budget over the run, instead of a batch size: batch sizes vary too.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Of every step; by default 32.")] = None,
    momentum: Annotated[float | None, typer.Option(help="Where the search for the best momentum starts.")] = None,
    standardize: Annotated[bool, typer.Option(help="Give columns mean 0 and standard deviation 1.")] = True,
    intercept: Annotated[bool, typer.Option(help="Append a column of ones.")] = True,
    output: Output = Path("output"),
    as_json: AsJson = False,
) -> None:
    """Find the learning-rate schedule with the least expected loss on your own regression table."""
    from sgdsim.cli import own

    own.design(table, target, steps, examples, batch_size, momentum, standardize, intercept, output, as_json)


@app.command()
@one_line
def run(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A TOML file; see --example.")] = None,
    example: Annotated[bool, typer.Option("--example", help="Print a commented file that runs.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write to, instead of the file's own.")
    ] = None,
    hosts: Hosts = False,
    as_json: AsJson = False,
) -> None:
    """Run the experiment that a TOML file describes; exit code 1 if a number disagrees with theory."""
    from sgdsim.cli import own

    if example:
        own.print_example(as_json)
    else:
        own.run(file, output, hosts, as_json)


@app.command()
@one_line
def bench(as_json: AsJson = False) -> None:
    """Measure speed and memory against hand-written loops (needs a source checkout)."""
    from sgdsim.cli import machine

    machine.bench(as_json)


@app.command()
@one_line
def explore(
    port: Annotated[int, typer.Option(help="On 127.0.0.1; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    chains: Annotated[int, typer.Option(help="Of each simulation, 256 to 16384.")] = 4096,
) -> None:
    """Open a local page with sliders: exact theory, approximations, and a live simulation beside them."""
    from sgdsim.cli.explore import explore as serve

    serve(port, browser, chains)


@app.command()
@one_line
def doctor(as_json: AsJson = False) -> None:
    """Say what sgdsim runs on: versions, devices, number type, cores, extras."""
    from sgdsim.cli import machine

    machine.doctor(as_json)
