"""What laws written for one chain are made of: what a GPU thread that keeps a chain computes.

Parameters are lists of D vectors, one number for each of the chains side by side, and stay in registers. Operators are
read as the program hands them over: a number, a sequence of D (a diagonal), or something to be indexed `[i, j]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from sgdsim.kernels.base import Kernel
from sgdsim.kernels.draws import random
from sgdsim.kernels.draws.chi_square import ChiSquareExact, ChiSquareQuantile

# Parameters, state and operators may fill so many of a thread's 255 registers; 128 would fit, but compile for minutes.
_REGISTERS = 80
# A dense operator has D^2 numbers: those of ten parameters take all registers and spill none.
_WIDEST_DENSE = 10

Row = jax.Array  # (chains,)
# A number, a diagonal, or what is to be indexed [i, j].
Operator = Row | Sequence[Row]
# The i-th pair of random words of this step, for every chain.
Pairs = Callable[[int], tuple[Row, Row]]
Law = Callable[[Any, Pairs, Sequence[Row]], list[Row]]


def normals(pairs: Pairs, number: int) -> list[Row]:
    """`number` standard normals, two from each pair of words; the first number // 2 pairs (rounded up) are used up."""
    return [z for i in range(-(-number // 2)) for z in random.box_muller(*pairs(i))][:number]


def times(operator: Operator, x: Sequence[Row]) -> list[Row]:
    """`operator` @ x."""
    if isinstance(operator, Sequence):
        return [a * xi for a, xi in zip(operator, x, strict=True)]
    if getattr(operator, "ndim", 1) == 0:
        return [operator * xi for xi in x]
    n = range(len(x))
    return [sum((operator[i, j] * x[j] for j in n[1:]), start=operator[i, 0] * x[0]) for i in n]


def dot(x: Sequence[Row], y: Sequence[Row]) -> Row:
    """The inner product of two vectors."""
    return sum((a * b for a, b in zip(x[1:], y[1:], strict=True)), start=x[0] * y[0])


def decayed(operator: Operator | None, gradient: list[Row], w: Sequence[Row]) -> list[Row]:
    """The gradient with the pull of weight decay."""
    if operator is None:
        return gradient
    return [g + pull for g, pull in zip(gradient, times(operator, w), strict=True)]


def chi_square(sampler: ChiSquareExact | ChiSquareQuantile, z: Row, pairs: Pairs) -> tuple[Row, Row]:
    """(q, sqrt q), q chi-square, from a normal or from pairs of words of their own."""
    if isinstance(sampler, ChiSquareQuantile):
        return sampler.from_normal(z)
    number = sampler.degrees // 2
    words = [word for i in range(-(-number // 2)) for word in pairs(i)][:number]
    return sampler.from_uniforms([random.uniform(word) for word in words], z)


def fits_a_thread(kernel: Kernel, wide: int, dimension: int) -> bool:
    """Whether a thread holds what a chain needs: `wide` numbers for each parameter, and the operators of its kernel."""
    operators = [leaf for leaf in jax.tree.leaves(kernel) if leaf.ndim]
    wide += sum(leaf.ndim == 1 and leaf.size == dimension for leaf in operators)
    dense = any(leaf.ndim == 2 for leaf in operators)
    return wide * dimension <= _REGISTERS and (not dense or dimension <= _WIDEST_DENSE)
