"""Numbers on pages that count how often an interval covers: sources of `docs/_numbers`, a quarter of an hour each."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator

import numpy as np
from printed import PAGES, Said, numbers


@numbers("theory/tail-estimation.md", seconds=900)
def tail_index_coverage() -> Iterator[Said]:
    """All columns but that of `powerlaw`."""
    from tail_coverage import CASES, METHODS, cells

    warnings.simplefilter("ignore", category=RuntimeWarning)
    for seed, (name, (draw, truth)) in enumerate(CASES.items()):
        if name in ("t(2)", "t(3)", "t(5)", "Pareto(2)", "Pareto(5)"):
            found = [float(x) for cell in cells(draw, truth, METHODS, 400, 30_000, seed) for x in _percentages(cell)]
            yield Said(f"| {name} | {truth} |" + " {} %, {} %, {} % |" * len(METHODS), tuple(found))


def _percentages(cell: str) -> list[str]:
    return [part.strip().removesuffix("%") for part in cell.split(",")]


@numbers("gradient-variance.md", seconds=900)
def polynomial_band() -> Iterator[Said]:
    sys.path.insert(0, str(PAGES.parent / "bench"))
    from polynomial_band import CASES, replicate

    warnings.simplefilter("ignore")  # a low degree misses the data, as it should
    found = [replicate(name) for name in CASES]
    labels = {"AICc + 0": "the degree that AICc prefers", "AICc + 1": "one more", "AICc + 2": "two more",
              "AICc + 3": "three more"}  # fmt: skip
    for rule, label in {"all terms": "this one", **labels}.items():
        cover = np.concatenate([100 * case[rule][0] for case in found])
        ratios = [case[rule][1] / case["all terms"][1] for case in found]
        widths = (float(np.median(np.concatenate(ratios))), float(np.median([ratio.max() for ratio in ratios])))
        if rule == "all terms":
            yield Said(f"| {label} | {{}} to {{}}% (computed", (cover.min(), cover.max()))
        else:
            yield Said(f"| {label} | {{}} to {{}}% | {{}} | {{}} |", (cover.min(), cover.max(), *widths))
