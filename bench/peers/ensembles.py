"""One task, written in every library: Tr Sigma of SGD on Gaussian regression, from an ensemble of chains.

Inputs x ~ N(0, I_D), labels N(0, sigma^2), the teacher is 0. Every contestant returns for each chain the time average
of |w|^2 after a burn-in: the mean over chains estimates Tr Sigma, their scatter its standard error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rivals import on_every_device

import sgdsim as ss

RATE, SIGMA = 0.1, 0.5


class Task(NamedTuple):
    """How much to run."""

    dimension: int
    batch: int
    chains: int
    steps: int
    burn_in: int


Run = Callable[[], np.ndarray]  # averages of |w|^2, one for each chain


def _jax_run(task: Task, step: Callable, start: Callable) -> Run:
    """`step(key, i, state) -> (state, w)` for the chains of one device, on every device."""

    def one_device(key):
        def advance(i, carry):
            state, total = carry
            state, w = step(jax.random.fold_in(key, i), i, state)
            return state, total + jnp.where(i >= task.burn_in, (w**2).sum(axis=-1), 0)

        chains = task.chains // jax.device_count()
        _, total = jax.lax.fori_loop(0, task.steps, advance, (start(key, chains), jnp.zeros(chains)))
        return total / (task.steps - task.burn_in)

    compiled, keys = on_every_device(one_device), jax.random.split(jax.random.key(0), jax.device_count())
    return lambda: np.asarray(compiled(keys)).ravel()


def handwritten_jax(task: Task) -> Run:
    """One batch-shaped array a step, an einsum for the gradient."""

    def step(key, i, w):
        z = jax.random.normal(key, (len(w), task.batch, task.dimension + 1))
        x, noise = z[..., : task.dimension], SIGMA * z[..., task.dimension]
        residual = jnp.einsum("cbd,cd->cb", x, w) - noise
        w = w - RATE * jnp.einsum("cbd,cb->cd", x, residual) / task.batch
        return w, w

    return _jax_run(task, step, lambda key, chains: jnp.zeros((chains, task.dimension)))


def _loss(w, x, y):
    return 0.5 * jnp.mean((x @ w - y) ** 2)


def _one_batch(key, task: Task):
    x_key, y_key = jax.random.split(key)
    x = jax.random.normal(x_key, (task.batch, task.dimension))
    return x, SIGMA * jax.random.normal(y_key, (task.batch,))


def vmapped_optax(task: Task) -> Run:
    """A run written for one chain, vmapped with a key each."""
    optimizer = optax.sgd(RATE)

    def one(key, w, state):
        update, state = optimizer.update(jax.grad(_loss)(w, *_one_batch(key, task)), state)
        return optax.apply_updates(w, update), state

    def step(key, i, carry):
        w, state = jax.vmap(one)(jax.random.split(key, len(carry[0])), *carry)
        return (w, state), w

    def start(key, chains):
        w = jnp.zeros((chains, task.dimension))
        return w, jax.vmap(optimizer.init)(w)

    return _jax_run(task, step, start)


def blackjax_sgld(task: Task) -> Run:
    """SGLD at temperature 0 is SGD: the ensemble is vmapped as blackjax's documentation does."""
    import blackjax

    kernel = blackjax.sgld(lambda w, batch: -jax.grad(_loss)(w, *batch))

    def one(key, w):
        batch_key, step_key = jax.random.split(key)
        return kernel.step(step_key, w, _one_batch(batch_key, task), RATE, 0.0)

    def step(key, i, w):
        w = jax.vmap(one)(jax.random.split(key, len(w)), w)
        return w, w

    return _jax_run(task, step, lambda key, chains: jnp.zeros((chains, task.dimension)))


def diffrax_sde(task: Task) -> Run:
    """The continuous-time limit dw = -w dt + sqrt(rate C) dW, Euler with steps of the learning rate."""
    import diffrax

    spread = jnp.sqrt(RATE * SIGMA**2 / task.batch)
    drift, solver = diffrax.ODETerm(lambda t, w, args: -w), diffrax.Euler()

    def one(key, w, t):
        path = diffrax.UnsafeBrownianPath(shape=(task.dimension,), key=key)
        terms = diffrax.MultiTerm(drift, diffrax.ControlTerm(lambda t, w, args: spread * jnp.eye(len(w)), path))
        return solver.step(terms, t, t + RATE, w, None, None, made_jump=False)[0]

    def step(key, i, w):
        w = jax.vmap(one, in_axes=(0, 0, None))(jax.random.split(key, len(w)), w, i * RATE)
        return w, w

    return _jax_run(task, step, lambda key, chains: jnp.zeros((chains, task.dimension)))


def numpy_loop(task: Task) -> Run:
    """The batch-shaped loop in NumPy, float32."""

    def run():
        rng, w, total = np.random.default_rng(0), np.zeros((task.chains, task.dimension), np.float32), 0.0
        for i in range(task.steps):
            x = rng.standard_normal((task.chains, task.batch, task.dimension), dtype=np.float32)
            noise = rng.standard_normal((task.chains, task.batch), dtype=np.float32)
            residual = np.einsum("cbd,cd->cb", x, w) - np.float32(SIGMA) * noise
            w -= np.float32(RATE / task.batch) * np.einsum("cbd,cb->cd", x, residual)
            if i >= task.burn_in:
                total = total + (w**2).sum(axis=1)
        return total / (task.steps - task.burn_in)

    return run


def numba_loops(task: Task) -> Run:
    """Plain loops, compiled, chains in parallel."""
    import numba

    normal = np.random.standard_normal  # numba compiles its own, one generator a thread
    rate, sigma, (dimension, batch, chains, steps, burn_in) = RATE, SIGMA, task

    @numba.njit(parallel=True, fastmath=True)
    def run():
        out = np.zeros(chains)
        for c in numba.prange(chains):
            w, g, x, total = np.zeros(dimension), np.zeros(dimension), np.zeros(dimension), 0.0
            for i in range(steps):
                g[:] = 0.0
                for _ in range(batch):
                    residual = -sigma * normal()
                    for d in range(dimension):
                        x[d] = normal()
                        residual += x[d] * w[d]
                    for d in range(dimension):
                        g[d] += x[d] * residual
                for d in range(dimension):
                    w[d] -= rate / batch * g[d]
                if i >= burn_in:
                    for d in range(dimension):
                        total += w[d] * w[d]
            out[c] = total / (steps - burn_in)
        return out

    return run


def torch_batched(task: Task) -> Run:
    """The batch-shaped loop in PyTorch, without autograd."""
    import torch

    def run():
        generator, total = torch.Generator().manual_seed(0), torch.zeros(task.chains)
        w = torch.zeros(task.chains, task.dimension)
        with torch.inference_mode():
            for i in range(task.steps):
                x = torch.randn(task.chains, task.batch, task.dimension, generator=generator)
                noise = SIGMA * torch.randn(task.chains, task.batch, generator=generator)
                residual = torch.einsum("cbd,cd->cb", x, w) - noise
                w = w - RATE / task.batch * torch.einsum("cbd,cb->cd", x, residual)
                if i >= task.burn_in:
                    total += (w**2).sum(dim=1)
        return (total / (task.steps - task.burn_in)).numpy()

    return run


def torch_func(task: Task) -> Run:
    """`torch.func`: the gradient of one chain's loss, vmapped over chains."""
    import torch

    def loss(w, x, y):
        return 0.5 * ((x @ w - y) ** 2).mean()

    gradient = torch.func.vmap(torch.func.grad(loss))

    def run():
        generator, total = torch.Generator().manual_seed(0), torch.zeros(task.chains)
        w = torch.zeros(task.chains, task.dimension)
        for i in range(task.steps):
            x = torch.randn(task.chains, task.batch, task.dimension, generator=generator)
            y = SIGMA * torch.randn(task.chains, task.batch, generator=generator)
            w = (w - RATE * gradient(w, x, y)).detach()
            if i >= task.burn_in:
                total += (w**2).sum(dim=1)
        return (total / (task.steps - task.burn_in)).numpy()

    return run


def sgdsim(task: Task) -> Run:
    """This library; its own statistics stand in for the averages of single chains."""
    problem = ss.LinearRegression(np.ones(task.dimension), label_noise=SIGMA)

    def run():
        result = ss.simulate(problem, ss.SGD(RATE), batch_size=task.batch, chains=task.chains, steps=task.steps,
                             burn_in=task.burn_in, statistics=(ss.statistics.Losses(),), progress=False)
        # Tr Sigma is twice the test loss here; two numbers with its mean and standard error.
        return 2 * (result.test_loss + result.test_loss_stderr * np.array([-1.0, 1.0]))

    return run
