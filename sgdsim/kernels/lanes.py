"""The laws of Gaussian minibatch gradients written for one chain: what a GPU thread that keeps a chain computes.

Parameters are lists of D vectors, one number for each of the chains side by side, and stay in registers. Operators are
read as the program hands them over: a number, a sequence of D (a diagonal), or something to be indexed `[i, j]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sgdsim.kernels import random
from sgdsim.kernels.chi_square import ChiSquareExact, ChiSquareQuantile
from sgdsim.kernels.gaussian import DirectGaussianKernel, GaussianKernel
from sgdsim.kernels.quadratic import QuadraticKernel

# Parameters, state and operators may fill so many of a thread's 255 registers; 128 would fit, but compile for minutes.
_REGISTERS = 80
# A dense operator has D^2 numbers: those of ten parameters take all registers and spill none.
_WIDEST_DENSE = 10

Row = Any  # (chains,)
# The i-th pair of random words of this step, for every chain.
Pairs = Callable[[int], tuple[Row, Row]]
Law = Callable[[Any, Pairs, Sequence[Row]], list[Row]]


def lane_law(kernel: Any) -> Law | None:
    """`law(kernel, pairs, w)`, the gradient of every chain at `w`; None where this kernel has no such form."""
    if isinstance(kernel, GaussianKernel):
        return _gaussian
    if isinstance(kernel, DirectGaussianKernel) and kernel.batch_size == 1:
        return _one_example
    return _quadratic if isinstance(kernel, QuadraticKernel) else None


def normals(pairs: Pairs, number: int) -> list[Row]:
    """`number` standard normals, two from each pair of words; the first number // 2 pairs (rounded up) are used up."""
    return [z for i in range(-(-number // 2)) for z in random.box_muller(*pairs(i))][:number]


def times(operator: Any, x: Sequence[Row]) -> list[Row]:
    """`operator` @ x."""
    if getattr(operator, "ndim", 1) == 0:
        return [operator * xi for xi in x]
    if isinstance(operator, Sequence):
        return [a * xi for a, xi in zip(operator, x, strict=True)]
    n = range(len(x))
    return [sum((operator[i, j] * x[j] for j in n[1:]), start=operator[i, 0] * x[0]) for i in n]


def dot(x: Sequence[Row], y: Sequence[Row]) -> Row:
    """The inner product of two vectors."""
    return sum((a * b for a, b in zip(x[1:], y[1:], strict=True)), start=x[0] * y[0])


def _decayed(kernel: Any, gradient: list[Row], w: Sequence[Row]) -> list[Row]:
    if kernel.weight_decay is None:
        return gradient
    return [g + pull for g, pull in zip(gradient, times(kernel.weight_decay, w), strict=True)]


def _quadratic(kernel: Any, pairs: Pairs, w: Sequence[Row]) -> list[Row]:
    """H (w - m) + F z."""
    away = [wi - mi for wi, mi in zip(w, kernel.problem.minimum, strict=True)]
    noise = times(kernel.factor, normals(pairs, len(w)))
    return [g + e for g, e in zip(times(kernel.problem.hessian_operator, away), noise, strict=True)]


def _gaussian(kernel: Any, pairs: Pairs, w: Sequence[Row]) -> list[Row]:
    """The one-example law of `GaussianKernel`."""
    noisy, n = kernel.noise_std is not None, len(w)
    z = normals(pairs, n + 1 + noisy)
    d = [wi - ui for wi, ui in zip(w, kernel.teacher, strict=True)]
    x, c = times(kernel.factor, z[:n]), times(kernel.second_moment, d)
    r, s2 = dot(x, d), dot(c, d)
    if noisy:
        r, s2 = r + kernel.noise_std * z[n + 1], s2 + kernel.noise_std * kernel.noise_std
    s = jnp.sqrt(s2)
    used = -(-(n + 1 + noisy) // 2)
    q, root_q = _chi_square(kernel.chi_square, z[n], lambda i: pairs(used + i))
    scale = root_q / kernel.batch_size
    along = q / kernel.batch_size - scale * r / jnp.where(s > 0, s, 1)
    return _decayed(kernel, [along * ci + scale * s * xi for ci, xi in zip(c, x, strict=True)], w)


def _one_example(kernel: Any, pairs: Pairs, w: Sequence[Row]) -> list[Row]:
    """One example times its residual, x (x'd + e)."""
    noisy, n = kernel.noise_std is not None, len(w)
    z = normals(pairs, n + noisy)
    x = times(kernel.factor, z[:n])
    r = dot(x, [wi - ui for wi, ui in zip(w, kernel.teacher, strict=True)])
    if noisy:
        r = r + kernel.noise_std * z[n]
    return _decayed(kernel, [xi * r for xi in x], w)


def _chi_square(sampler: ChiSquareExact | ChiSquareQuantile, z: Row, pairs: Pairs) -> tuple[Row, Row]:
    """(q, sqrt q), q chi-square, from a normal or from pairs of words of their own."""
    if isinstance(sampler, ChiSquareQuantile):
        return sampler.from_normal(z)
    number = sampler.batch_size // 2
    words = [word for i in range(-(-number // 2)) for word in pairs(i)][:number]
    return sampler.from_uniforms([random.uniform(word) for word in words], z)


def is_lane_sized(kernel: Any, wide: int, dimension: int) -> bool:
    """Whether a thread holds what a chain needs: `wide` numbers for each parameter, and the operators of its kernel."""
    operators = [leaf for leaf in jax.tree.leaves(kernel) if leaf.ndim]
    wide += sum(leaf.ndim == 1 and leaf.size == dimension for leaf in operators)
    dense = any(leaf.ndim == 2 for leaf in operators)
    return wide * dimension <= _REGISTERS and (not dense or dimension <= _WIDEST_DENSE)
