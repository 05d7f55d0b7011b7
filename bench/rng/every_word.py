"""The map from words to normal numbers, for every one of the 2^32 words: no sampling.

    python bench/rng/every_word.py

Prints the largest errors of -2 log u and of the circle against float64, and the moments that the float32 numbers have
if words are uniform and independent, beside those of the normal law (the last rounding, of a product, is left out).
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim.kernels.draws import random

AT_A_TIME = 2**20
QUARTER = 2**30
Sums = tuple[dict[str, Any], dict[str, Any]]


@functools.cache
def word_of_radius_one() -> int:
    """A word whose -2 log u is 1 in float32; to be called outside of a program first."""
    near = np.uint32(np.exp(-0.5) * 2.0**32) + np.arange(-2000, 2000, dtype=np.int64).astype(np.uint32)
    exact = near[np.asarray(random.minus_two_log(jnp.asarray(near))) == 1]
    return int(exact[len(exact) // 2])


def radius(word: jax.Array) -> Sums:
    """Largest errors of -2 log u, and sums of its powers."""
    square = random.minus_two_log(word).astype(jnp.float64)
    truth = -2 * jnp.log((word.astype(jnp.float64) + 0.5) / 2.0**32)
    relative = jnp.where(word < 2**31, jnp.abs(square / truth - 1), 0)
    worst = {"-2 log u, absolute": jnp.abs(square - truth), "-2 log u, relative, u < 1/2": relative, "r": square**0.5}
    return worst, {f"r^{2 * k}": square**k for k in (1, 2, 3, 4)}


def circle(word: jax.Array) -> Sums:
    """Largest errors of a quarter of the circle of radius 1, and sums of powers."""
    x, y = on_circle(word)
    angle = 2 * jnp.pi * (word.astype(jnp.float64) / 2.0**32 - 0.125)
    worst = {
        "cosine": jnp.abs(x - jnp.cos(angle)),
        "sine": jnp.abs(y - jnp.sin(angle)),
        "radius": jnp.abs(x * x + y * y - 1),
    }
    return worst, {f"c^{k}": (x**k + y**k) / 2 for k in (2, 4, 6, 8)} | {"x^2 y^2": x * x * y * y}


def on_circle(word: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The two numbers of a word, radius 1, in float64."""
    x, y = random.box_muller(jnp.full_like(word, word_of_radius_one()), word)
    return x.astype(jnp.float64), y.astype(jnp.float64)


def over_all(function: Callable[[jax.Array], Sums], words: int, every: int) -> Sums:
    """Largest errors and means of `function` over the words below `words`."""

    @jax.jit
    def step(first: Any) -> Sums:
        index = first + jnp.arange(AT_A_TIME, dtype=jnp.uint32)
        worst, total = function(index * np.uint32(every) + np.uint32(every // 2))
        return {k: v.max() for k, v in worst.items()}, {k: v.sum() for k, v in total.items()}

    worst: dict[str, float] = {}
    total: dict[str, float] = {}
    for first in range(0, words // every, AT_A_TIME):
        largest, sums = step(np.uint32(first))
        worst = {k: max(float(v), worst.get(k, 0.0)) for k, v in largest.items()}
        total = {k: float(v) + total.get(k, 0.0) for k, v in sums.items()}
    return worst, {k: v / (words // every) for k, v in total.items()}


def assert_quarters_are_the_same() -> None:
    """The other three quarters have the numbers of the first, exchanged and with other signs: odd moments vanish."""
    word = jnp.arange(0, QUARTER, 1021, dtype=jnp.uint32)
    c, s = on_circle(word)
    for quarter, (x, y) in enumerate([(c, s), (-s, c), (-c, -s), (s, -c)]):
        found = on_circle(word + np.uint32(quarter * QUARTER))
        np.testing.assert_array_equal(found, (x, y))


def main() -> None:
    """Go through the words, then print what they give."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="every so manieth word only, for a quick look")
    every = parser.parse_args().every
    jax.config.update("jax_enable_x64", True)
    assert_quarters_are_the_same()
    worst, mean = over_all(radius, 2**32, every)
    worst_on_circle, mean_on_circle = over_all(circle, QUARTER, every)
    for name, value in (worst | worst_on_circle).items():
        print(f"largest {name:<36} {value:.3g}")
    print(f"{'':<10} {'has':>20} {'law':>6}  relative difference")
    for k, law in ((2, 1), (4, 3), (6, 15), (8, 105)):
        value = mean[f"r^{k}"] * mean_on_circle[f"c^{k}"]
        print(f"E z^{k:<6} {value:20.12f} {law:6d}  {value / law - 1:+.2e}")
    value = mean["r^4"] * mean_on_circle["x^2 y^2"]
    print(f"E x^2 y^2  {value:20.12f} {1:6d}  {value - 1:+.2e}")


if __name__ == "__main__":
    main()
