"""How often the band of `fit_polynomial` covers, and rules that choose a degree: `python bench/polynomial_band.py`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np

import sgdsim as ss

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "estimators"))
from test_polynomial_fit import CASES, SUBSETS, TWELVE, between, linear_coverage, regression_curve

REPLICATIONS = 2000
SEED = 29  # not the tests'
EXTRA = (0, 1, 2, 3)
ERRORS = (1e-5, 1e-3, 3e-3, 0.01, 0.02, 0.05, 0.2)
SIZES = ([2, 8, 32, 128, 400], [2, 4, 8, 16, 32, 64, 128, 256], TWELVE)


def replicate(name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Coverage and median width at every point, by rule."""
    exact, sizes, errors, options = CASES[name]
    rng, grid = np.random.default_rng(SEED), between(sizes)
    f, truth = exact(sizes), exact(grid)
    stderr = np.geomspace(*errors, len(sizes)) * f
    bands: dict[str, list] = {}
    for _ in range(REPLICATIONS):
        y = f + stderr * rng.standard_normal(len(f))
        fit = ss.fit_polynomial(sizes, y, stderr, **options)
        bands.setdefault("all terms", []).append(fit.band(grid))
        for extra in EXTRA:
            degree = min(fit.selected_degree + extra, len(sizes))
            rival = ss.fit_polynomial(sizes, y, stderr, degree=degree, **options)
            bands.setdefault(f"AICc + {extra}", []).append(rival.band(grid))
    found = {}
    for rule, limits in bands.items():
        low, high = np.moveaxis(np.array(limits), 1, 0)
        found[rule] = ((low <= truth) & (truth <= high)).mean(axis=0), np.median(high - low, axis=0)
    return found


def main() -> None:
    """Print both tables."""
    warnings.simplefilter("ignore")  # a low degree misses the data, as it should
    found = {name: replicate(name) for name in CASES}
    print(f"{REPLICATIONS} replications of each of {len(CASES)} cases, width over that of `all terms`")
    for rule in next(iter(found.values())):
        low, case = min((cover[rule][0].min(), name) for name, cover in found.items())
        high = max(cover[rule][0].max() for cover in found.values())
        ratio = [cover[rule][1] / cover["all terms"][1] for cover in found.values()]
        widest = np.median([r.max() for r in ratio])
        print(f"{rule:10s} covers {low:.3f} ({case}) to {high:.3f}; width {np.median(np.concatenate(ratio)):.2f}, "
              f"at the worst point of a case {widest:.2f}")
    hits = []
    for exact, options in ((lambda b: regression_curve(b, 10), SUBSETS), (CASES["network"][0], {})):
        for sizes in SIZES:
            hits += [linear_coverage(exact, sizes, between(sizes, 40), (e, e), **options)
                     for e in ERRORS if len(sizes) > 5 or e >= 1e-3]
    print(f"computed, {len(hits)} more cases: {np.min(hits):.4f} to {np.max(hits):.4f}, mean {np.mean(hits):.4f}")


if __name__ == "__main__":
    main()
