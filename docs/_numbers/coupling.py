"""The coupling of docs/theory/label-noise.md: `python docs/_numbers/coupling.py`.

Label-noise SGD, its linear process and descent on L + lambda R on the same random numbers (figure 2 of paper 003).
"""

import jax
import jax.numpy as jnp
import numpy as np

import sgdsim as ss
from sgdsim.solver.manifold import regularized_loss

PROBLEM = ss.DiagonalNetwork(np.random.default_rng(0).normal(size=(2, 3)), teacher=[1.0, 0.5, 0.0])
START, RATE, CHAINS = np.sqrt([1.3, 0.8, 0.4, 0.3, 0.3, 0.4]), 0.05, 256  # u, v with u^2 - v^2 = the teacher
LATER = (1.0, 2.0)  # t = k eta lambda; before them the horizon of lemma 1, lambda^(1/2)


def coupled(sigma):
    """Largest norms so far of the remainder, of xi, and of the way of Phi, at each time; all examples every step."""
    x, y, n = jnp.asarray(PROBLEM.features), jnp.asarray(PROBLEM.targets), len(PROBLEM.targets)
    level = RATE * sigma**2 / n
    times = (level**0.5, *LATER)
    stops = [round(t / (RATE * level)) for t in times]
    path = jnp.asarray(regularized_loss(PROBLEM, RATE, label_noise=sigma, batch_size=n).descend(START, stops[-1]))

    def predicted(w):
        return x @ (w[:3] ** 2 - w[3:] ** 2)

    slopes, hessian = jax.jacobian(predicted)(jnp.asarray(START)), PROBLEM.hessian(START)

    def one(key):
        def step(carry, k):
            w, xi, most = carry
            noise = sigma * jax.random.rademacher(jax.random.fold_in(key, k), (n,), jnp.float64)
            w = w - RATE / n * jax.jacobian(predicted)(w).T @ (predicted(w) - y - noise)
            xi = xi - RATE * (hessian @ xi) + RATE / n * slopes.T @ noise
            rest = w - xi - path[k + 1]
            most = jnp.maximum(most, jnp.array([jnp.linalg.norm(v) for v in (rest, xi, path[k + 1] - path[0])]))
            return (w, xi, most), most

        start = jnp.asarray(START), jnp.zeros(6), jnp.zeros(3)
        return jax.lax.scan(step, start, jnp.arange(stops[-1]))[1][np.array(stops) - 1]

    return level, times, np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), CHAINS))).mean(axis=0)


with jax.enable_x64(True):
    for sigma in (0.4, 0.2, 0.1):
        level, times, most = coupled(sigma)
        for t, row in zip(times, most, strict=True):
            print(f"lambda {level:.5f}, t = {t:.3g}: |r| {row[0]:.4f}, |xi| {row[1]:.4f}, |Phi_k - Phi_0| {row[2]:.4f}")
