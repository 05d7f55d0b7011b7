"""Minibatch gradients of Gaussian linear regression at the cost of one example."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim._types import apply, inner, spec
from sgdsim.kernels.base import none_if_zero, normals, square_root
from sgdsim.kernels.chi_square import chi_square_sampler
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
        dimension, chains = params.shape
        d = params - self.teacher[:, None]
        c = apply(self.second_moment, d)
        noisy = self.noise_std is not None
        z = normals(key, (dimension + 1 + noisy, chains), params.dtype)
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
    batch_size: int

    def init(self, key: jax.Array, chains: int) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def draw(self, key: jax.Array, params: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """One gradient per chain, at b times the cost; memory is one example per chain."""
        dimension, _ = params.shape
        d = params - self.teacher[:, None]

        def add_example(i: Any, total: jax.Array) -> jax.Array:
            noisy = self.noise_std is not None
            shape = (dimension + noisy, *params.shape[1:])
            z = normals(jax.random.fold_in(key, i), shape, params.dtype)
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


def gaussian_kernel(
    problem: LinearRegression, batch_size: int, dtype: Any
) -> GaussianKernel | DirectGaussianKernel:
    """The faster kernel of a `LinearRegression`: direct for one example, compressed for more."""
    return direct_kernel(problem, 1) if batch_size == 1 else compressed_kernel(problem, batch_size, dtype)


def compressed_kernel(problem: LinearRegression, batch_size: int, dtype: Any) -> GaussianKernel:
    """The kernel whose cost does not depend on the batch size."""
    return GaussianKernel(
        factor=square_root(problem.second_moment),
        second_moment=problem.second_moment,
        teacher=problem.effective_teacher,
        noise_std=none_if_zero(np.sqrt(problem.residual_variance)),
        weight_decay=none_if_zero(problem.weight_decay),
        chi_square=chi_square_sampler(batch_size, dtype),
        batch_size=np.float64(batch_size),
    )


def direct_kernel(problem: LinearRegression, batch_size: int) -> DirectGaussianKernel:
    """The kernel that draws every example of the batch."""
    return DirectGaussianKernel(
        factor=square_root(problem.second_moment),
        teacher=problem.effective_teacher,
        noise_std=none_if_zero(np.sqrt(problem.residual_variance)),
        weight_decay=none_if_zero(problem.weight_decay),
        batch_size=batch_size,
    )
