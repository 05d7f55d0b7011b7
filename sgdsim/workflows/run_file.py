"""An experiment described by a TOML file: build it, run it, write what came out."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sgdsim import _checks, _labels
from sgdsim._version import __version__
from sgdsim.comparisons.comparison import Comparison
from sgdsim.comparisons.stationary import compare_one
from sgdsim.experiments.framework.write import all_or_nothing, dump, plain
from sgdsim.problems import Problem
from sgdsim.results import Result, SweepResult
from sgdsim.solver import predict
from sgdsim.solver.prediction import Prediction
from sgdsim.workflows.run_sections import (
    OPTIMIZERS,
    PROBLEMS,
    RUNS,
    build,
    check_sections,
    guard,
    options,
    statistics_named,
)
from sgdsim.workflows.toml import Document, read_toml

MEASURED = ("train_loss", "train_loss_stderr", "test_loss", "test_loss_stderr")
PREDICTED = (*_labels.PREDICTED, "theory_error", "approximation", "regime", "reference", "out_of_regime")


T = TypeVar("T")


class Point(NamedTuple):
    """One point of the run: `at` says which of a sweep, `note` why there is no prediction where one was wanted."""

    at: dict[str, Any]
    result: Result
    prediction: Prediction | None
    comparison: Comparison | None
    note: str

    @property
    def setting(self) -> str:
        """Where in a sweep it is; empty for a single run."""
        return ", ".join(f"{name} {value:g}" for name, value in self.at.items())

    def to_dict(self) -> dict[str, Any]:
        """What was found, ready for JSON."""
        found = {name: getattr(self.result, name) for name in ("status", "chains", "diverged", *MEASURED)}
        held = self.comparison and self.comparison.to_dict()
        return plain({**self.at, **found, "comparison": held, "note": self.note})

    def sentence(self) -> str:
        """What was measured, in one line."""
        one = self.result
        losses = [
            f"{name} {getattr(one, name):.6g} ± {getattr(one, f'{name}_stderr'):.2g}"
            for name in ("train_loss", "test_loss")
            if getattr(one, name) is not None
        ]
        head = f"{self.setting}: " if self.at else ""
        why = f"; no prediction: {self.note}" if self.note else ""
        return f"{head}status {one.status}, {one.diverged} of {one.chains} chains diverged, {', '.join(losses)}{why}"


class Outcome(NamedTuple):
    """What a file led to, and where it was written."""

    points: list[Point]
    folder: Path
    seconds: float

    @property
    def disagrees(self) -> bool:
        """Whether any verdict is "disagree"."""
        return any(point.comparison is not None and point.comparison.disagrees for point in self.points)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the run early."""
        return any(point.result.status == "interrupted" for point in self.points)

    def to_dict(self) -> dict[str, Any]:
        """What was found, ready for JSON."""
        points = [point.to_dict() for point in self.points]
        where, seconds = str(self.folder), round(self.seconds, 2)
        return {"output": where, "seconds": seconds, "points": points, "disagrees": self.disagrees}


def run_file(path: str | Path, output: str | Path | None = None, progress: bool | None = None) -> Outcome:
    """Run the experiment that a TOML file describes, and write what came out.

    Args:
        path: the file; see the page on run files. Paths in it are relative to its folder.
        output: a folder instead of the file's own `output`; without either it is output/NAME-OF-THE-FILE.
        progress: as for `simulate`.

    Returns:
        An `Outcome`. The folder has result.nc (for `ss.load`), provenance.json with the text of the file and, where
        asked for, predictions.json, comparison.json and comparison.md.

    Raises:
        ValueError: the file cannot be read, or something in it is wrong: file, line and key come first.
        ImportError: xarray or h5netcdf is missing.
    """
    begun = time.perf_counter()
    document = read_toml(path)
    run = check_sections(document)
    folder = _folder(document, output)
    for module in ("xarray", "h5netcdf"):
        _checks.need(module, "results")

    problem = build(document, "problem", PROBLEMS)
    optimizer = build(document, "optimizer", OPTIMIZERS)
    how = options(document, run, RUNS[run], without=("problem", "optimizer", "progress"))
    if "statistics" in how:
        how["statistics"] = guard(document, (run, "statistics"), lambda: statistics_named(how["statistics"]))
    rate = options(document, "compare", compare_one, without=("result", "theory")).get("error_rate", 0.01)
    guard(document, ("compare", "error_rate"), lambda: _check_rate(rate))
    theory = _predict(document, run, problem, optimizer, how)

    found = guard(document, (run,), lambda: RUNS[run](problem, optimizer, **how, progress=progress))
    found = _with_text(found, document.text)
    points = _points(found, theory, rate if "compare" in document.content else None)
    outcome = Outcome(points, folder, time.perf_counter() - begun)
    _write(outcome, found, document)
    return outcome


def _folder(document: Document, output: str | Path | None) -> Path:
    """Where to write: the caller's folder, else the file's, else output/NAME."""
    given = document.content.get("output")
    if output is not None:
        folder = _checks.path("output", output)
    elif given is None:
        folder = Path("output") / document.path.stem
    elif isinstance(given, str) and given:
        folder = document.path.parent / _checks.path("output", given)
    else:
        raise document.wrong(("output",), _checks.error("output", given, "a folder", 'write output = "folder"'))
    if folder.exists() and not folder.is_dir():
        complaint = _checks.error("output", str(folder), "a folder", "choose another name")
        raise complaint if output is not None else document.wrong(("output",), complaint)
    return folder


def _predict(
    document: Document, run: str, problem: Problem, optimizer: Any, how: Mapping[str, Any]
) -> list[tuple[Prediction | None, str]]:
    """The prediction of every point, before anything is simulated, or why there is none at a point of a sweep."""
    given = options(document, "predict", predict, without=("problem", "optimizer", "batch_size", "sampling"))
    if not {"predict", "compare"} & document.content.keys():
        return []

    def one(size: int, rate: float | None) -> tuple[Prediction | None, str]:
        chosen = optimizer if rate is None else dataclasses.replace(optimizer, learning_rate=rate)
        try:
            return predict(problem, chosen, batch_size=size, sampling=how.get("sampling"), **given), ""
        except ValueError as refused:
            if run == "sweep" and str(refused).startswith("learning_rate"):  # beyond the limit: no law at this point
                return None, str(refused)
            raise
        except NotImplementedError as missing:
            raise NotImplementedError(f"{missing}, or leave out [predict] and [compare]") from missing

    grid = itertools.product(_listed(how["batch_size"]), _listed(how.get("learning_rate")))
    return [guard(document, (run,), partial(one, size, rate)) for size, rate in grid]


def _check_rate(rate: object) -> None:
    if not 0 < _checks.real("error_rate", rate, "in (0, 1)", "0.01 is the default") < 1:
        raise _checks.error("error_rate", rate, "in (0, 1)", "0.01 is the default")


def _listed(value: T | list[T]) -> list[T]:
    return value if isinstance(value, list) else [value]


def _with_text(found: Result | SweepResult, text: str) -> Result | SweepResult:
    """The same result, whose provenance has the file it came from."""
    if isinstance(found, SweepResult):
        return dataclasses.replace(found, results=[_noted(one, text) for one in found.results])
    return _noted(found, text)


def _noted(result: Result, text: str) -> Result:
    return dataclasses.replace(result, provenance={**result.provenance, "run_file": text})


def _points(
    found: Result | SweepResult, theory: list[tuple[Prediction | None, str]], error_rate: float | None
) -> list[Point]:
    """Every point of the run with its prediction and verdicts, which share one error rate."""
    results = found.points() if isinstance(found, SweepResult) else [({}, found)]
    share = None if error_rate is None else 1 - (1 - error_rate) ** (1 / len(results))
    points = []
    for (at, one), (law, note) in zip(results, theory or [(None, "")] * len(results), strict=True):
        held = compare_one(one, law, error_rate=share) if law is not None and share is not None else None
        points.append(Point(at, one, law, held, note))
    return points


def _write(outcome: Outcome, found: Result | SweepResult, document: Document) -> None:
    """Every file at once: what an earlier run left stays until this one is complete."""
    points = outcome.points
    with all_or_nothing(outcome.folder) as folder:
        found.save(folder / "result.nc")
        origin = {name: value for name, value in points[0].result.provenance.items() if name != "run_file"}
        dump(folder / "provenance.json", plain({
            "file": document.path.name, "text": document.text, "sgdsim": __version__,
            "seconds": round(outcome.seconds, 2), "run": origin,
        }))  # fmt: skip
        if any(point.prediction for point in points):
            laws = [{**p.at, "note": p.note, **_law(p.prediction)} for p in points]
            dump(folder / "predictions.json", plain(laws))
        if any(point.comparison for point in points):
            dump(folder / "comparison.json", [point.to_dict() for point in points])
            (folder / "comparison.md").write_text(_markdown(points), encoding="utf-8")


def _law(prediction: Prediction | None) -> dict[str, Any]:
    return {name: getattr(prediction, name) for name in PREDICTED} if prediction else {}


def _markdown(points: list[Point]) -> str:
    parts = []
    for point in points:
        head = f"## {point.setting}\n\n" if point.setting else ""
        parts.append(head + (point.comparison.to_markdown() if point.comparison else f"No prediction: {point.note}"))
    return "\n\n".join(parts) + "\n"
