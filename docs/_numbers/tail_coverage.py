"""The coverage table of docs/theory/tail-estimation.md: `python docs/_numbers/tail_coverage.py`.

`powerlaw` is asked where it is installed.
"""

import importlib.util
import math
import warnings

import numpy as np

from sgdsim.estimators import hill, tail_index
from sgdsim.experiments.minibatch_noise.tails import alpha_stable_index
from sgdsim.solver.tails import kesten_tail_index

CHUNK = 20
KESTEN = [(0.9, 1), (0.6, 1), (0.6, 2), (1.0, 8), (0.3, 1)]


def recursion(curvature, batch):
    def draw(rng, shape):
        w, x = np.zeros(shape, np.float32), np.float32(curvature / batch)
        for _ in range(80):
            q = sum(rng.standard_normal(shape, np.float32) ** 2 for _ in range(batch))
            w = (1 - x * q) * w + x * np.sqrt(q) * rng.standard_normal(shape, np.float32)
        return w.astype(np.float64)

    return draw


CASES = {
    **{f"t({dof})": (lambda rng, shape, d=dof: rng.standard_t(d, shape), dof) for dof in (2, 3, 5)},
    **{f"Pareto({a})": (lambda rng, shape, a=a: (1 - rng.random(shape)) ** (-1 / a), a) for a in (2, 5)},
    **{f"recursion({c:g}, {s})": (recursion(c, s), kesten_tail_index(c, s)) for c, s in KESTEN},
    "Frechet(2)": (lambda rng, shape: rng.standard_exponential(shape) ** -0.5, 2),
    "Burr, decay 1": (lambda rng, shape: (1 - rng.random(shape)) ** -0.5 - 1, 2),
}


def ours(method):
    def interval(x):
        found = tail_index(x, method=method)
        return found.low, found.value, found.high

    return interval


def naive(x):
    k = math.isqrt(len(x))
    index = hill(x, k)
    gamma, half = 1 / index, 1.96 / index / math.sqrt(k)
    return 1 / (gamma + half), index, 1 / (gamma - half)


def stable(x):
    """No interval comes with it: plus and minus 1.96 standard errors over ten parts."""
    x = x * np.random.default_rng(0).choice([-1, 1], len(x))  # it needs a symmetric law
    index = alpha_stable_index(x, math.isqrt(len(x)))
    parts = [alpha_stable_index(part, math.isqrt(len(part))) for part in np.array_split(x, 10)]
    half = 1.96 * np.std(parts, ddof=1) / math.sqrt(10)
    return index - half, index, index + half


def power_law(x):
    import powerlaw

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = powerlaw.Fit(np.abs(x), verbose=False).power_law  # its exponent is that of the density
    half = 1.96 * fit.sigma
    return fit.alpha - 1 - half, fit.alpha - 1, fit.alpha - 1 + half


def cells(draw, truth, methods, runs, n, seed):
    rng, found = np.random.default_rng(seed), {name: [] for name in methods}
    for begin in range(0, runs, CHUNK):
        for row in np.abs(draw(rng, (min(CHUNK, runs - begin), n))):
            for name, method in methods.items():
                found[name].append(method(row))
    for rows in found.values():
        low, index, high = np.array(rows).T
        inside = np.mean((low <= truth) & (truth <= high))
        width = np.median(np.log(np.maximum(high, 1e-300) / np.maximum(low, 1e-300))) / 2
        yield f"{inside:.1%}, {np.median(index) / truth - 1:+.1%}, {np.expm1(width):.0%}"


METHODS = {**{name: ours(name) for name in ("hill", "moment", "ml")}, "naive Hill": naive, "alpha-stable": stable}


def main(runs, n, methods):
    warnings.simplefilter("ignore", category=RuntimeWarning)
    print("| law | index | " + " | ".join(methods) + " |")
    print("| --- | ---: |" + " ---: |" * len(methods))
    for seed, (name, (draw, truth)) in enumerate(CASES.items()):
        row = cells(draw, truth, methods, runs, n, seed)
        print(f"| {name} | {truth:.4g} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main(400, 30_000, METHODS)
    if importlib.util.find_spec("powerlaw"):
        main(25, 2_000, {"powerlaw": power_law})  # it takes seconds for each sample
