"""The experiments by name."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from sgdsim import _checks
from sgdsim.experiments.framework.findings import SCALES, Findings
from sgdsim.experiments.framework.report import build_report
from sgdsim.experiments.framework.write import check_writing, write


class Experiment(NamedTuple):
    """A published figure or table that can be reproduced.

    Attributes:
        id: its name on the command line.
        title: what it shows.
        reference: where it was published.
        function: from a `Scale` to `Findings`; its other arguments are data of one's own it can be given.
    """

    id: str
    title: str
    reference: str
    function: Callable[..., Findings]

    def check(self, inputs: Mapping[str, str]) -> None:
        """Refuse data of one's own that this experiment does not take."""
        taken = list(inspect.signature(self.function).parameters)[1:]
        for name, value in inputs.items():
            if name not in taken:
                others = ", ".join(e.id for e in list_experiments() if name in inspect.signature(e.function).parameters)
                raise _checks.error(name, value, f"None for {self.id}" + (f", which takes {', '.join(taken)}" if taken
                                    else ", which has data of its own"), f"it is for {others}")


_REGISTRY: dict[str, Experiment] = {}


def experiment(
    id: str, title: str, reference: str
) -> Callable[[Callable[..., Findings]], Callable[..., Findings]]:
    """Register a function from a `Scale` to `Findings` as an experiment."""

    def register(function: Callable[..., Findings]) -> Callable[..., Findings]:
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


def run(
    id: str, scale: str = "smoke", output: str | Path | None = None, *, report: bool = True,
    inputs: Mapping[str, str] = {},
) -> Findings:
    """Run one experiment; with `output`, write output/ID/ and rebuild output/report.html.

    Args:
        id: its name, one of `list_experiments()`.
        scale: "smoke" (seconds), "laptop" (minutes) or "full".
        output: a folder, made if missing; None writes nothing.
        report: whether to rebuild the report; of several experiments, once at the end will do.
        inputs: data of one's own by name, for experiments that take them: "table" and "target", or "data".

    Raises:
        ValueError: no such experiment or scale, or it does not take this input.
        ImportError: something is missing that files need.
    """
    chosen = find(id)
    chosen.check(inputs)
    size = SCALES[_checks.choice("scale", scale, SCALES)]
    if output is not None:
        check_writing()
    start = time.perf_counter()
    findings = chosen.function(size, **inputs)
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
