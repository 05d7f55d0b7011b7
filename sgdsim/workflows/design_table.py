"""The best schedule for a user's own regression table: by theory, held against simulation."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sgdsim import _checks
from sgdsim.comparisons.judge import judge
from sgdsim.engine import simulate
from sgdsim.experiments.framework.findings import Figure, Findings, Table, Verdict, share
from sgdsim.experiments.framework.load_table import load
from sgdsim.experiments.framework.report import build_report
from sgdsim.experiments.framework.write import check_writing, write
from sgdsim.optimizers import SGD
from sgdsim.optimizers.base import Tabulated
from sgdsim.plots import schedules
from sgdsim.problems import DatasetRegression
from sgdsim.problems.base import Problem
from sgdsim.solver.whole_run import Design, Schedule, design

if TYPE_CHECKING:
    from sgdsim.experiments.framework.load_table import Table as TableFile

_CHAINS = 1024
_CAPTION = "Learning rate and expected test loss: designed, and the usual schedules at their own best peaks."


def design_table(
    table: TableFile,
    target: str | None = None,
    *,
    steps: int,
    examples: int | None = None,
    batch_size: int | None = None,
    momentum: float | None = None,
    standardize: bool = True,
    intercept: bool = True,
    output: str | Path | None = None,
    chains: int = _CHAINS,
) -> Findings:
    """Design the schedule for a regression table, and simulate it and the usual ones.

    Args:
        table: as for `analyze`.
        target: the column to predict; for "diabetes" it is "target".
        steps: of the run.
        examples: budget; None is `batch_size` a step.
        batch_size: of every step; None is 32, as far as the table has so many rows, where `examples` is None.
        momentum: where the search for the best one starts; None is none.
        standardize: give every column mean 0 and standard deviation 1.
        intercept: append a column of ones.
        output: a folder; writes output/design-NAME/ and rebuilds output/report.html.
        chains: of each simulation.

    Raises:
        ValueError: the table, a column or a number is not usable.
        ImportError: pandas or, for "diabetes", scikit-learn is missing.
    """
    start = time.perf_counter()
    if output is not None:
        check_writing()
    frame, target, name = load(table, target)
    problem = DatasetRegression.from_table(frame, target=target, standardize_columns=standardize, intercept=intercept)
    if examples is None and batch_size is None:
        batch_size = min(32, problem.n_examples)
    optimizer = SGD(1.0, momentum)
    found = design(problem, steps=steps, examples=examples, batch_size=batch_size, optimizer=optimizer)
    ways = found.schedules
    findings = Findings(
        verdicts=[hold_at_end(problem, label, each, steps, chains, share(len(ways))) for label, each in ways.items()],
        data={
            "step": (("step",), found.run.step),
            "schedule": (("schedule",), np.array(list(ways))),
            **{field: (("schedule", "step"), np.stack([getattr(each.run, field) for each in ways.values()]))
               for field in ("learning_rate", "batch_size", "test_loss")},
        },
        figures=[Figure("figure", _CAPTION, partial(schedules, found))],
        summary=_sentences(found),
        tables=[Table("expected test loss at the end", ["schedule", "peak rate", "test loss", "over designed"],
                      [[label, f"{max(each.run.learning_rate):.4g}", f"{each.test_loss:.5g}",
                        f"{each.test_loss / found.test_loss - 1:.1%}"] for label, each in ways.items()])],
        provenance={**found.configuration, "table": name, "target": target, "chains": chains},
    )  # fmt: skip
    if output is not None:
        folder = _checks.path("output", output) / f"design-{name}"
        write(findings, folder, id=f"design-{name}", title=f"A schedule for {name}", reference=found.reference,
              scale="-", seconds=time.perf_counter() - start)
        build_report(output)
    return findings


def hold_at_end(problem: Problem, name: str, way: Schedule, steps: int, chains: int, error_rate: float) -> Verdict:
    """The expected test loss at the end of a run against chains that make it."""
    sizes = [*np.broadcast_to(way.batch_size, steps).tolist(), 1]  # the last step lets the state be seen
    result = simulate(problem, way.optimizer, batch_size=sizes, chains=chains, steps=steps + 1, record=[steps],
                      initial=way.run.mean[0], progress=False)  # fmt: skip
    assert result.record is not None
    value, error = (float(result.record[key][0]) for key in ("test_loss", "test_loss_stderr"))
    note = f"{result.diverged} chains diverged" if result.diverged else ""
    groups = int(result.provenance["groups"])
    row = judge("test_loss", value, error, way.test_loss, error_rate=error_rate, groups=groups, note=note)
    return Verdict(name, row)


def _sentences(found: Design) -> list[str]:
    over = ", ".join(f"{name} {each.test_loss / found.test_loss - 1:.1%}" for name, each in found.others.items())
    how = found.configuration
    schedule = found.optimizer.learning_rate
    assert isinstance(schedule, Tabulated)
    rates = schedule.values
    peak = int(np.argmax(rates))
    unfinished = "The descent ended with its last iteration: a little is left."
    return [
        f"{how['steps']} steps, {how['examples']} examples: the designed schedule reaches {found.test_loss:.5g} of "
        f"excess loss; more than that at their own best peaks: {over}.",
        f"Its rate starts at {rates[0]:.3g}, peaks at {rates[peak]:.3g} at step {peak}, and ends at {rates[-1]:.3g}.",
        f"It is about {found.regime}.",
        *([] if found.converged else [unfinished]),
    ]
