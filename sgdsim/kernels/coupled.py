"""Two chains on the same random numbers: the one that learns, and a linear one whose covariance is known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from sgdsim._specs import spec
from sgdsim._types import AnyArray, apply
from sgdsim.kernels.base import Kernel


@spec
class CoupledKernel:
    r"""The gradient of (w, v): what the kernel draws at w, and the linearised one with the noise at the minimum,

    $$g_v = H v + g(w^*),$$

    where g(w*) is drawn with the key of g(w).
    """

    kernel: Kernel
    minimum: AnyArray
    hessian: AnyArray

    def init(self, key: jax.Array, chains: int) -> PyTree:
        """What the kernel remembers."""
        return self.kernel.init(key, chains)

    def draw(self, key: jax.Array, params: jax.Array, state: PyTree) -> tuple[jax.Array, PyTree]:
        """Both gradients, (2D, chains)."""
        w, v = jnp.split(params, 2)
        gradient, new = self.kernel.draw(key, w, state)
        at_minimum = jnp.broadcast_to(jnp.asarray(self.minimum)[:, None], w.shape)
        noise, _ = self.kernel.draw(key, at_minimum, state)
        return jnp.concatenate([gradient, apply(self.hessian, v) + noise]), new
