"""The sections of a run file: which keys they have, and what they stand for."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from sgdsim import _checks, optimizers, problems, statistics
from sgdsim.engine import simulate, sweep
from sgdsim.results import Result, SweepResult
from sgdsim.workflows.toml import Document

# What a file may name. Nothing else is looked up, imported or evaluated.
_MADE_OF_CODE = (problems.Problem, problems.FlaxNetwork, problems.FromLoss)
PROBLEMS: dict[str, Callable[..., problems.Problem]] = {
    name: kind for name, kind in vars(problems).items()
    if hasattr(kind, "example_gradient") and kind not in _MADE_OF_CODE
}
PROBLEMS |= {
    f"{name}.{way}": getattr(kind, way)
    for name, kind in PROBLEMS.items() for way in ("from_table", "random") if hasattr(kind, way)
}
OPTIMIZERS: dict[str, Callable[..., optimizers.Optimizer]] = {
    "SGD": optimizers.SGD,
    "Adam": optimizers.Adam,
    "AdamW": optimizers.AdamW,
    "RMSProp": optimizers.RMSProp,
    "AdamE": optimizers.AdamE,
    "AdamMini": optimizers.AdamMini,
    "Adalayer": optimizers.Adalayer,
    "AdaSGD": optimizers.AdaSGD,
    "Adafactor": optimizers.Adafactor,
    "DampedNewton": optimizers.DampedNewton,
    "NaturalGradient": optimizers.NaturalGradient,
}
STATISTICS: dict[str, Callable[[], statistics.Statistic]] = {
    "Moments": statistics.Moments,
    "Losses": statistics.Losses,
    "GradientNoise": statistics.GradientNoise,
    "LargestDeviations": statistics.LargestDeviations,
}
RUNS: dict[str, Callable[..., Result | SweepResult]] = {"simulate": simulate, "sweep": sweep}
T = TypeVar("T")
SECTIONS = ("problem", "optimizer", *RUNS, "predict", "compare")
PATHS = ("table", "checkpoint")


def check_sections(document: Document) -> str:
    """Refuse unknown sections; return which of `RUNS` the file asks for."""
    content = document.content
    for key in content:
        guard(document, (key,), partial(_checks.choice, "key", key, ("output", *SECTIONS)))
    for name in SECTIONS:
        if not isinstance(content.get(name, {}), dict):
            raise document.wrong((name,), _checks.error(name, content[name], "a table", f"write [{name}]"))
    runs = [name for name in RUNS if name in content]
    if len(runs) != 1:
        raise document.wrong(runs[1:], _checks.error("run", runs, "[simulate] or [sweep]", "write one of them"))
    return runs[0]


def build(document: Document, section: str, kinds: Mapping[str, Callable[..., T]]) -> T:
    """The object that a section with a `kind` describes."""
    if section not in document.content:
        raise document.wrong((), _checks.error(f"[{section}]", None, "there", "see `sgdsim run --example`"))
    kind = document.content[section].get("kind")
    guard(document, (section, "kind"), lambda: _checks.choice("kind", kind, kinds))
    given = options(document, section, kinds[kind], more=("kind",))
    return guard(document, (section,), lambda: kinds[kind](**given))


def options(
    document: Document,
    section: str,
    function: Callable[..., object],
    *,
    without: tuple[str, ...] = (),
    more: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The keys of a section as arguments of a function; the names in `without` are no keys, those in `more` are.

    Raises:
        ValueError: a key is unknown, of the wrong type, or missing.
    """
    given = document.content.get(section, {})
    known = {name: p for name, p in inspect.signature(function).parameters.items()
             if name not in without and p.kind is not p.VAR_KEYWORD}
    for key, value in given.items():
        guard(document, (section, key), partial(_checks.choice, "key", key, [*known, *more]))
        if key in known:
            guard(document, (section, key), partial(_check_type, key, value, known[key]))
    for name, parameter in known.items():
        if section in document.content and parameter.default is parameter.empty and name not in given:
            remedy = f"[{section}] needs it: write {name} = ..."
            raise document.wrong((section,), _checks.error(name, None, "given", remedy))
    folder = document.path.parent
    return {key: str(folder / _checks.path(key, value)) if key in PATHS else value
            for key, value in given.items() if key in known}


def guard(document: Document, keys: tuple[str, ...], action: Callable[[], T]) -> T:
    """Do it; a complaint about a whole section gets the line of the key that it names, wherever in the file that is."""
    try:
        return action()
    except (ValueError, NotImplementedError) as refused:
        named = re.match(r"\w+", str(refused))
        key = named[0] if named else ""
        if len(keys) == 1:
            tables = {name: document.content.get(name) for name in (*keys, *SECTIONS)}
            holders = (name for name, table in tables.items() if isinstance(table, dict) and key in table)
            keys = next(((name, key) for name in holders), keys)
        raise document.wrong(keys, refused) from refused


def statistics_named(names: object) -> list[statistics.Statistic]:
    """The statistics of these names."""
    listed = names if isinstance(names, list) else [names]
    return [STATISTICS[_checks.choice("statistics", name, STATISTICS)]() for name in listed]


def _check_type(key: str, value: object, parameter: inspect.Parameter) -> None:
    """Refuse what no argument takes; the rest is for the functions themselves, which know more."""
    annotation = str(parameter.annotation)
    if isinstance(parameter.default, bool) and not isinstance(value, bool):
        raise _checks.error(key, value, "true or false", f"try {key} = true")
    if (annotation.startswith("str") or key in PATHS) and not isinstance(value, str):
        raise _checks.error(key, value, "text", f'write {key} = "..." in quotes')
    leaves = list(value.values()) if isinstance(value, dict) and "Mapping" in annotation else _leaves(value)
    if not all(isinstance(leaf, bool | int | float | str) for leaf in leaves):
        raise _checks.error(key, value, "a number, text, true, false, or an array of these", "write no dates or tables")
    if "Sequence" in annotation and isinstance(value, list) and any(isinstance(item, list) for item in value):
        raise _checks.error(key, value, "a flat array", "write no arrays inside it")


def _leaves(value: object) -> list[object]:
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, list) else [value]
