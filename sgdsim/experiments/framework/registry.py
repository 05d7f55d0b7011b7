"""The experiments by name."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sgdsim import _checks
from sgdsim.experiments.framework.findings import SCALES, Findings, Scale
from sgdsim.experiments.framework.report import build_report
from sgdsim.experiments.framework.write import write


class Experiment(NamedTuple):
    """A published figure or table that can be reproduced.

    Attributes:
        id: its name on the command line.
        title: what it shows.
        reference: where it was published.
        function: from a `Scale` to `Findings`.
    """

    id: str
    title: str
    reference: str
    function: Callable[[Scale], Findings]


_REGISTRY: dict[str, Experiment] = {}


def experiment(
    id: str, title: str, reference: str
) -> Callable[[Callable[[Scale], Findings]], Callable[[Scale], Findings]]:
    """Register a function from a `Scale` to `Findings` as an experiment."""

    def register(function: Callable[[Scale], Findings]) -> Callable[[Scale], Findings]:
        if id in _REGISTRY and _REGISTRY[id].function is not function:
            raise _checks.error("experiment", id, "a new name", "another experiment has it")
        _REGISTRY[id] = Experiment(id, title, reference, function)
        return function

    return register


def list_experiments() -> list[Experiment]:
    """Return every experiment, in the order of their names."""
    return [_REGISTRY[name] for name in sorted(_REGISTRY)]


def find(id: str) -> Experiment:
    """Return one experiment.

    Raises:
        ValueError: there is none of that name; the message suggests near ones.
    """
    return _REGISTRY[_checks.choice("experiment", id, sorted(_REGISTRY))]


def run(id: str, scale: str = "smoke", output: str | Path | None = None, *, report: bool = True) -> Findings:
    """Run one experiment; with `output`, write output/ID/ and rebuild output/report.html.

    Args:
        id: its name, one of `list_experiments()`.
        scale: "smoke" (seconds), "laptop" (minutes) or "full".
        output: a folder, made if missing; None writes nothing.
        report: whether to rebuild the report; of several experiments, once at the end will do.

    Raises:
        ValueError: no such experiment or scale.
    """
    chosen = find(id)
    size = SCALES[_checks.choice("scale", scale, SCALES)]
    start = time.perf_counter()
    findings = chosen.function(size)
    if output is not None:
        seconds = time.perf_counter() - start
        write(
            findings,
            _checks.path("output", output) / id,
            id=id,
            title=chosen.title,
            reference=chosen.reference,
            scale=scale,
            seconds=seconds,
        )
        if report:
            build_report(output)
    return findings
