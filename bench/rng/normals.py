"""The engine's normal numbers against their law: moments, bins, tails, and correlations in every direction.

    python bench/rng/normals.py memory --draws 1e9
    python bench/rng/normals.py memory --draws 1e9 --scale 1.0002    a control, which must fail

Standard errors are those of independent normal numbers, so that every line is a z-score or a p-value. The last line
says how small the smallest p-value is among so many.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import factorial2, ndtr
from stream import ORDERS, chunks

BINS = 4096
TAILS = np.arange(3.0, 6.75, 0.25)
LAGS = ("the two of a pair", "neighbouring chains", "neighbouring rows", "neighbouring keys")
# Each with mean 0 and variance 1.
SHAPES = {
    "z": lambda z: z,
    "z^2": lambda z: (z * z - 1) / np.sqrt(2),
    "|z|": lambda z: (np.abs(z) - np.sqrt(2 / np.pi)) / np.sqrt(1 - 2 / np.pi),
}


def moment(power: int) -> float:
    """E z^power of a standard normal."""
    return 0.0 if power % 2 else float(factorial2(power - 1)) if power else 1.0


def neighbours(x: np.ndarray, lag: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (keys, rows, chains) and their partners; a pair lies half of the chains apart."""
    half = x.shape[2] // 2
    return {
        LAGS[0]: (x[:, :, :half], x[:, :, half:]),
        LAGS[1]: (x[:, :, :-1], x[:, :, 1:]),
        LAGS[2]: (x[:, :-1], x[:, 1:]),
        LAGS[3]: (x[:-1], x[1:]),
    }[lag]


def gather(order: str, draws: float, rows: int, chains: int, scale: float) -> tuple[Any, ...]:
    """How many numbers, their counts in bins of equal probability and beyond each of the tails, and sums."""
    number, bins, tails, sums = 0, np.zeros(BINS, np.int64), np.zeros((2, len(TAILS)), np.int64), Counter()
    for chunk in chunks(order, True, rows, chains):
        # Keys first again, however the order laid them out.
        z = chunk.astype(np.float64) * scale
        if order != "memory":
            z = z.transpose((1, 2, 0) if order == "chain" else (2, 0, 1))
        number += z.size
        bins += np.bincount((ndtr(z) * BINS).astype(np.int64).ravel(), minlength=BINS)[:BINS]
        far = z[np.abs(z) > TAILS[0]]
        tails += [[(side * far > reach).sum() for reach in TAILS] for side in (1, -1)]
        power = np.ones_like(z)
        for k in range(1, 9):
            power *= z
            sums[f"moment {k}"] += power.sum()
        for name, shape in SHAPES.items():
            x = shape(z)
            for lag in LAGS:
                first, second = neighbours(x, lag)
                if first.size:
                    sums[f"{name} of {lag}"] += np.vdot(first.ravel(), second.ravel())
                    sums[f"number of {lag}"] += first.size if name == "z" else 0
        if number >= draws:
            return number, bins, tails, sums
    raise AssertionError("the stream never ends")


def main() -> None:
    """Draw, then print one line for each statistic."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("order", choices=ORDERS[:4])
    parser.add_argument("--draws", type=float, default=1e8)
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--chains", type=int, default=4096)
    parser.add_argument("--scale", type=float, default=1.0, help="multiply every number, as a control")
    given = parser.parse_args()
    number, bins, tails, sums = gather(given.order, given.draws, given.rows, given.chains, given.scale)
    print(f"{number:.4g} numbers, order {given.order}, times {given.scale}")
    found: dict[str, float] = {}

    def score(name: str, z: float, said: str) -> None:
        found[name] = 2 * stats.norm.sf(abs(z))
        print(f"{name:<28} {said:<36} z {z:+6.2f}  p {found[name]:.3g}")

    for k in range(1, 9):
        value = sums[f"moment {k}"] / number
        stderr = np.sqrt((moment(2 * k) - moment(k) ** 2) / number)
        score(f"moment {k}", (value - moment(k)) / stderr, f"{value:.8g}, law {moment(k):g}")
    for name in SHAPES:
        for lag in LAGS:
            if many := sums[f"number of {lag}"]:
                value = sums[f"{name} of {lag}"] / many
                score(f"{name}, {lag}", value * np.sqrt(many), f"correlation {value:+.3g}")
    chi_square = float(((bins - number / BINS) ** 2).sum() / (number / BINS))
    found["bins"] = min(1.0, 2 * min(stats.chi2.sf(chi_square, BINS - 1), stats.chi2.cdf(chi_square, BINS - 1)))
    print(f"{'bins':<28} chi-square {chi_square:.1f} on {BINS - 1} degrees of freedom: p {found['bins']:.3g}")
    distance = np.abs(np.cumsum(bins) / number - np.arange(1, BINS + 1) / BINS).max()
    found["ks"] = float(stats.kstwobign.sf(distance * np.sqrt(number)))
    print(f"{'ks':<28} Kolmogorov-Smirnov at the edges of the bins {distance:.3g}: p {found['ks']:.3g}")
    for side, counts in zip("+-", tails, strict=True):
        for reach, count in zip(TAILS, counts, strict=True):
            expected = number * stats.norm.sf(reach)
            low, high = stats.poisson.cdf(count, expected), stats.poisson.sf(count - 1, expected)
            found[f"beyond {side}{reach}"] = p = min(1.0, 2 * min(low, high))
            print(f"beyond {side}{reach:<19} {count} numbers, law {expected:.1f}: p {p:.3g}")
    least = min(found, key=lambda name: found[name])
    print(f"smallest of {len(found)} p-values: {found[least]:.3g} ({least}); times {len(found)}: "
          f"{min(1.0, len(found) * found[least]):.3g}")


if __name__ == "__main__":
    main()
