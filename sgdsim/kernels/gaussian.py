"""Minibatch gradients of Gaussian linear regression at the cost of one example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike

from sgdsim._specs import spec, static
from sgdsim._types import Matrix, apply, as_matrix, inner
from sgdsim.kernels import pallas_laws
from sgdsim.kernels.base import Kernel, column, none_if_zero, normal_rows, square_root
from sgdsim.kernels.conditional_variance import GradientMoments
from sgdsim.kernels.draws.chi_square import chi_square_sampler
from sgdsim.kernels.pallas_laws import Law, Pairs, Row, chi_square, decayed, dot, times
from sgdsim.problems import LinearRegression


@spec
class GaussianKernel:
    r"""The one-example law of a batch of b.

    One example has gradient x r with r = x'd + e, d = w - u, so c = E[x r] = K d and
    s^2 = Var(r) = d'K d + sigma^2. With one fresh example (x*, r*) and q ~ chi^2_b, exactly in distribution,

    $$\frac1b \sum_{i \le b} x_i r_i = \frac{q}{b} c + \frac{\sqrt{s^2 q}}{b} \Bigl(x_* - \frac{r_*}{s^2} c\Bigr).$$
    """

    factor: Any
    second_moment: Any
    teacher: Any
    noise_std: Any
    weight_decay: Any
    chi_square: Any
    batch_size: Any

    def init(self, key: jax.Array, chains: int) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def draw(self, key: jax.Array, params: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """One gradient per chain, whatever the batch size."""
        dimension = params.shape[0]
        d = params - column(self.teacher, params)
        c = apply(self.second_moment, d)
        noisy = self.noise_std is not None
        z = normal_rows(key, dimension + 1 + noisy, params)
        x = apply(self.factor, z[:dimension])
        r, s2 = inner(x, d), inner(c, d)
        if noisy:
            r = r + self.noise_std * z[dimension + 1]
            s2 = s2 + self.noise_std**2
        s = jnp.sqrt(s2)
        q, root_q = self.chi_square.draw(jax.random.fold_in(key, 1), z[dimension])
        scale = root_q / self.batch_size
        # s = 0 only where c = 0: the gradient is then 0 whatever r / s is taken to be.
        along = q / self.batch_size - scale * r / jnp.where(s > 0, s, 1)
        gradient = along * c + (scale * s) * x
        if self.weight_decay is not None:
            gradient = gradient + apply(self.weight_decay, params)
        return gradient, state


@spec
class DirectGaussianKernel:
    r"""The same gradient by really drawing the b examples: $\frac1b \sum_i x_i (x_i^\top d + e_i) + \Gamma w$."""

    factor: Any
    teacher: Any
    noise_std: Any
    weight_decay: Any
    batch_size: int = static()

    def init(self, key: jax.Array, chains: int) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def draw(self, key: jax.Array, params: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """One gradient per chain, at b times the cost; memory is one example per chain."""
        dimension = params.shape[0]
        d = params - column(self.teacher, params)

        def add_example(i: Any, total: jax.Array) -> jax.Array:
            noisy = self.noise_std is not None
            z = normal_rows(jax.random.fold_in(key, i), dimension + noisy, params)
            x = apply(self.factor, z[:dimension])
            r = inner(x, d)
            if noisy:
                r = r + self.noise_std * z[dimension]
            return total + x * r

        total = jax.lax.fori_loop(0, self.batch_size, add_example, jnp.zeros_like(params))
        gradient = total / self.batch_size
        if self.weight_decay is not None:
            gradient = gradient + apply(self.weight_decay, params)
        return gradient, state


@spec
class GaussianMoments:
    r"""One example gives x r, jointly Gaussian: $E r^2 |x|^2 - |E x r|^2 = s^2\,\mathrm{tr} K + |Kd|^2$."""

    second_moment: Any
    teacher: Any
    residual_variance: Any

    def evaluate(self, problem: LinearRegression, params: jax.Array) -> GradientMoments:
        """The moments of every chain."""
        k = self.second_moment
        trace = k.sum() if k.ndim == 1 else jnp.trace(k)
        d = params - self.teacher[:, None]
        c = apply(k, d)
        variance = (inner(c, d) + self.residual_variance) * trace + inner(c, c)
        zero = jnp.zeros_like(variance)[None]
        return GradientMoments(problem.loss(params), problem.gradient(params), variance[None], zero)


def gaussian_kernel(
    problem: LinearRegression, batch_size: int, sampling: str, dtype: DTypeLike
) -> GaussianKernel | DirectGaussianKernel:
    """The faster kernel of a `LinearRegression`: direct for one example, compressed for more."""
    return direct_kernel(problem, 1) if batch_size == 1 else compressed_kernel(problem, batch_size, dtype)


def compressed_kernel(problem: LinearRegression, batch_size: int, dtype: DTypeLike) -> GaussianKernel:
    """The kernel whose cost does not depend on the batch size."""
    return GaussianKernel(
        factor=square_root(problem.input_second_moment),
        second_moment=problem.input_second_moment,
        teacher=problem.effective_teacher,
        noise_std=none_if_zero(np.sqrt(problem.residual_variance)),
        weight_decay=none_if_zero(problem.weight_decay),
        chi_square=chi_square_sampler(batch_size, dtype),
        batch_size=np.float64(batch_size),
    )


def direct_kernel(problem: LinearRegression, batch_size: int) -> DirectGaussianKernel:
    """The kernel that draws every example of the batch."""
    return DirectGaussianKernel(
        factor=square_root(problem.input_second_moment),
        teacher=problem.effective_teacher,
        noise_std=none_if_zero(np.sqrt(problem.residual_variance)),
        weight_decay=none_if_zero(problem.weight_decay),
        batch_size=batch_size,
    )


def gaussian_noise(problem: LinearRegression, batch_size: int, sampling: str) -> Matrix:
    """(s^2 K + c c') / b at the minimum, shape (D, D)."""
    k = as_matrix(problem.input_second_moment, problem.dimension)
    d = problem.minimum - problem.effective_teacher
    c = k @ d
    return ((d @ c + problem.residual_variance) * k + np.outer(c, c)) / batch_size


def gaussian_law(kernel: Kernel) -> Law | None:
    """The law for one chain: of a batch through one example, or of one example itself."""
    if isinstance(kernel, GaussianKernel):
        return _batch
    return _one_example if isinstance(kernel, DirectGaussianKernel) and kernel.batch_size == 1 else None


def _batch(kernel: GaussianKernel, pairs: Pairs, w: Sequence[Row]) -> list[Row]:
    """The one-example law of `GaussianKernel`."""
    noisy, n = kernel.noise_std is not None, len(w)
    z = pallas_laws.normals(pairs, n + 1 + noisy)
    d = [wi - ui for wi, ui in zip(w, kernel.teacher, strict=True)]
    x, c = times(kernel.factor, z[:n]), times(kernel.second_moment, d)
    r, s2 = dot(x, d), dot(c, d)
    if noisy:
        r, s2 = r + kernel.noise_std * z[n + 1], s2 + kernel.noise_std * kernel.noise_std
    used = -(-(n + 1 + noisy) // 2)
    q, root_q = chi_square(kernel.chi_square, z[n], lambda i: pairs(used + i))
    # Products with 1/b and 1/s in place of quotients, which take many instructions; s = 0 only where c = 0.
    inverse_b, inverse_s = 1 / kernel.batch_size, jnp.where(s2 > 0, jax.lax.rsqrt(s2), 0)
    scale, s = root_q * inverse_b, s2 * inverse_s
    along = q * inverse_b - scale * r * inverse_s
    return decayed(kernel.weight_decay, [along * ci + scale * s * xi for ci, xi in zip(c, x, strict=True)], w)


def _one_example(kernel: DirectGaussianKernel, pairs: Pairs, w: Sequence[Row]) -> list[Row]:
    """One example times its residual, x (x'd + e)."""
    noisy, n = kernel.noise_std is not None, len(w)
    z = pallas_laws.normals(pairs, n + noisy)
    x = times(kernel.factor, z[:n])
    r = dot(x, [wi - ui for wi, ui in zip(w, kernel.teacher, strict=True)])
    if noisy:
        r = r + kernel.noise_std * z[n]
    return decayed(kernel.weight_decay, [xi * r for xi in x], w)


def gaussian_moments(problem: LinearRegression) -> GaussianMoments:
    """The moments of a `LinearRegression`."""
    return GaussianMoments(problem.input_second_moment, problem.effective_teacher, problem.residual_variance)
