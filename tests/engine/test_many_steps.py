"""The program that takes many steps in a launch, emulated on this machine, and its lowering for a GPU."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice
from scipy import stats

import sgdsim as ss
from sgdsim._types import cast
from sgdsim.engine import ensemble
from sgdsim.engine.configure import configure
from sgdsim.engine.many_steps import LANES, is_fusible, many_steps, many_steps_of
from sgdsim.kernels import kernel_table, make_kernel

FLOAT32 = np.dtype(np.float32)
ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
DENSE = ROTATION * np.array([1.0, 0.5, 0.2]) @ ROTATION.T
emulated = functools.partial(many_steps, diverged=1e18, interpret=True)


def regression(covariance=(1.0, 0.5, 0.2), noise=0.5, weight_decay=0.0):
    return ss.LinearRegression(np.array(covariance), label_noise=noise, weight_decay=weight_decay,
                               teacher=np.array([1.0, -1.0, 0.5])[: len(covariance)])  # fmt: skip


def kernel_of(problem, batch_size):
    return cast(make_kernel(problem, batch_size, "online", FLOAT32), FLOAT32)


def started(optimizer, start, chains):
    """An optimizer in float32 and what `many_steps` takes after it: parameters, state, alive."""
    optimizer = cast(optimizer, FLOAT32)
    params = jnp.broadcast_to(jnp.asarray(start, FLOAT32)[:, None], (len(start), chains))
    return optimizer, (params, optimizer.as_optax().init(params), jnp.ones(chains, bool))


def gradients(problem, batch_size, start, chains, seed):
    """One gradient for each chain at `start`: what a step of SGD at rate 1 subtracts."""
    optimizer, state = started(ss.SGD(1.0), start, chains)
    params, _, alive = emulated(kernel_of(problem, batch_size), optimizer, jax.random.key(seed), 0, 1, *state)
    assert alive.all()
    return np.asarray(start)[:, None] - np.asarray(params, np.float64)


LAWS = {
    "b=1": (regression(), 1),
    "b=3, sums": (regression(), 3),
    "b=8, sums, dense": (regression(DENSE), 8),
    "b=64, quantile": (regression(weight_decay=0.1), 64),
    "quadratic": (ss.Quadratic(DENSE, np.diag([1.0, 2.0, 3.0]), minimum=[1.0, 0.0, -1.0]), 4),
}


def moments(problem, batch_size, w):
    """Mean and covariance of the minibatch gradient at w, by hand."""
    if isinstance(problem, ss.Quadratic):
        return DENSE @ (w - np.array([1.0, 0.0, -1.0])), np.diag([1.0, 2.0, 3.0]) / batch_size
    k, d = problem.second_moment, w - problem.effective_teacher
    k = np.diag(k) if k.ndim == 1 else k
    c, s2 = k @ d, d @ k @ d + problem.residual_variance
    pull = np.broadcast_to(problem.weight_decay, w.shape) * w
    return c + pull, (s2 * k + np.outer(c, c)) / batch_size


def z_scores(g, mean, covariance):
    """Errors of mean and covariance in units of their standard errors over the chains."""
    n = g.shape[1]
    off = g - mean[:, None]
    products = off[:, None] * off[None]
    spread = products.std(axis=-1, ddof=1) / math.sqrt(n)
    of_mean = off.mean(axis=1) / np.sqrt(np.diagonal(covariance) / n)
    return np.concatenate([of_mean, ((products.mean(axis=-1) - covariance) / spread)[np.tril_indices(len(g))]])


@pytest.mark.parametrize("name", LAWS)
def test_one_step_has_the_mean_and_covariance_of_a_minibatch(name, assert_within_sigma):
    problem, batch_size = LAWS[name]
    w = np.array([0.3, 0.7, -0.4])[: problem.dimension]
    z = z_scores(gradients(problem, batch_size, w, 60_000, 1), *moments(problem, batch_size, w))
    assert_within_sigma(z, 0, 1, comparisons=9 * len(LAWS))


def test_a_covariance_off_by_three_percent_would_be_seen(assert_within_sigma):
    problem, batch_size = LAWS["b=64, quantile"]
    w = np.array([0.3, 0.7, -0.4])
    mean, covariance = moments(problem, batch_size, w)
    g = gradients(problem, batch_size, w, 60_000, 1)
    with pytest.raises(AssertionError):
        assert_within_sigma(z_scores(g, mean, 1.03 * covariance), 0, 1, comparisons=9 * len(LAWS))


def test_the_whole_law_is_that_of_the_step_by_step_kernel():
    """Two samples, Kolmogorov and Smirnov, of every coordinate and of the length; a shift of .08 deviations is seen."""
    problem, w, chains = regression(), np.array([0.3, 0.7, -0.4]), 40_000
    kernel = kernel_of(problem, 5)
    point = jnp.broadcast_to(jnp.asarray(w, FLOAT32)[:, None], (3, chains))
    drawn = np.asarray(jax.jit(kernel.draw)(jax.random.key(2), point, ())[0], np.float64)
    fused = gradients(problem, 5, w, chains, 3)
    rows = [*zip(drawn, fused, strict=True), (np.linalg.norm(drawn, axis=0), np.linalg.norm(fused, axis=0))]
    assert min(stats.ks_2samp(a, b).pvalue for a, b in rows) > 1e-4 / len(rows)
    assert max(stats.ks_2samp(a, b + 0.08 * b.std()).pvalue for a, b in rows) < 1e-4 / len(rows)


OPTIMIZERS = {
    "SGD": ss.SGD(0.1),
    "momentum": ss.SGD(0.1, momentum=0.8),
    "Adam": ss.Adam(0.05),
    "Adam, no correction": ss.Adam(0.05, bias_correction=False),
    "AdamE": ss.AdamE(0.05),
    "RMSProp": ss.RMSProp(0.05, eps=1e-3),
}


@pytest.mark.parametrize("name", ["momentum", "Adam", "RMSProp"])
def test_without_noise_the_steps_are_those_of_the_optimizer(name):
    problem = ss.Quadratic(DENSE, np.zeros(3), minimum=[1.0, 0.0, -1.0])
    kernel = kernel_of(problem, 1)
    optimizer, (params, state, alive) = started(OPTIMIZERS[name], [0.5, 0.5, 0.5], 5)
    assert is_fusible(kernel, optimizer, 3)
    params = params + jnp.linspace(0, 1, 5)
    ended = emulated(kernel, optimizer, jax.random.key(0), 3, 23, params, state, alive)
    transform = optimizer.as_optax()
    for _ in range(20):
        update, state = transform.update(problem.gradient(params), state, params)
        params = params + update
    assert ended[2].all() and ended[1].count == state.count == 20
    np.testing.assert_allclose(ended[0], params, rtol=2e-5, atol=2e-6)
    for mine, theirs in zip(jax.tree.leaves(ended[1]), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-6)


def test_chains_neither_share_nor_repeat_their_random_words():
    problem = ss.Quadratic(np.zeros(2), np.ones(2))  # w is the sum of its noise
    optimizer, start = started(ss.SGD(1.0), [0.0, 0.0], 2 * LANES + 44)
    at = functools.partial(emulated, kernel_of(problem, 1), optimizer, jax.random.key(5))
    steps = [np.asarray(at(t, t + 1, *start)[0]) for t in (0, 1)]
    numbers = np.concatenate([x.ravel() for x in steps])
    assert len(np.unique(numbers)) == numbers.size
    # Two steps are one after the other, and one chain more or less changes no other chain.
    np.testing.assert_allclose(at(0, 2, *start)[0], steps[0] + steps[1], rtol=1e-6, atol=1e-6)
    fewer = started(ss.SGD(1.0), [0.0, 0.0], LANES - 1)[1]
    np.testing.assert_array_equal(at(0, 1, *fewer)[0], steps[0][:, : LANES - 1])


def test_a_diverged_chain_dies_and_stays_dead():
    problem = ss.Quadratic([1.0], [0.0])
    optimizer, (params, state, alive) = started(ss.SGD(0.5), [1.0], 4)
    params = params.at[0, 1].set(jnp.nan).at[0, 2].set(4e18)  # the third comes back below the bound
    alive = alive.at[3].set(False)
    ended = emulated(kernel_of(problem, 1), optimizer, jax.random.key(0), 0, 5, params, state, alive)
    assert ended[2].tolist() == [True, False, False, False]
    assert ended[0][0, 2] < 1e18


def test_a_whole_run_agrees_with_theory(monkeypatch):
    fused = functools.partial(many_steps, interpret=True)
    monkeypatch.setattr(ensemble, "many_steps_of", lambda platform, *rest: many_steps_of("gpu", *rest) and fused)
    problem, optimizer = ss.LinearRegression([1.0, 0.5], label_noise=0.5), ss.SGD(0.3)
    result = ss.simulate(problem, optimizer, batch_size=8, chains=4000, steps=300, burn_in=60, seed=4)
    assert result.provenance["steps_per_launch"] == "many" and result.status == "ok"
    prediction = ss.solver.predict(problem, optimizer, batch_size=8)
    assert {row.verdict for row in ss.compare(result, prediction).rows} == {"agree"}
    rows = [row for row in ss.compare(result, prediction).rows if row.predicted]
    off = {row.quantity: abs(row.simulated - 1.03 * row.predicted) / row.stderr for row in rows}
    assert len(off) == 4 and min(off.values()) > 4, off  # 3% would be seen in each of them


def asked(problem, optimizer, **options):
    run = configure(problem, optimizer, chains=10, steps=10, burn_in=0, seed=0, statistics=(), initial=None,
                    record=None, dtype=options.pop("dtype", "float32"))  # fmt: skip
    sizes = options.pop("batch_sizes", [8])
    table = kernel_table([cast(make_kernel(problem, b, "online", FLOAT32), FLOAT32) for b in sizes])
    return many_steps_of(options.pop("platform", "gpu"), table, [] if run.optimizer is None else [run.optimizer], run)


def test_it_is_used_where_it_applies_and_nowhere_else():
    problem = regression()
    assert asked(problem, ss.SGD(0.1)) is many_steps
    assert asked(problem, ss.SGD(0.1), platform="cpu") is None
    assert asked(problem, ss.SGD(0.1), dtype="float64") is None
    assert asked(problem, ss.SGD(lambda t: 0.1)) is None
    assert asked(problem, ss.SGD(0.1, preconditioner=[1.0, 1.0, 2.0])) is None
    assert asked(problem, ss.AdamMini(0.1, blocks=[[0, 1], [2]])) is None
    assert asked(problem, ss.SGD(0.1), batch_sizes=[4, 8]) is None
    assert asked(problem, ss.SGD(0.1), batch_sizes=[16, 64]) is many_steps
    assert asked(ss.LinearRegression(np.ones(20)), ss.SGD(0.1)) is many_steps
    assert asked(ss.LinearRegression(np.ones(21)), ss.SGD(0.1)) is None
    assert asked(ss.LinearRegression(np.eye(12)), ss.SGD(0.1)) is None


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")  # from jax 0.11 on
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_lowers_for_a_gpu(name):
    """To Triton's IR, which needs no GPU; what XLA makes of it there does."""
    kernel, (optimizer, state) = kernel_of(regression(DENSE), 8), started(OPTIMIZERS[name], np.zeros(3), 300)
    key = jax.random.key(0)
    h200 = jax.sharding.AbstractMesh((1,), ("x",), abstract_device=AbstractDevice("NVIDIA H200", 132, "gpu"))
    with jax.sharding.use_abstract_mesh(h200):
        traced = many_steps.trace(kernel, optimizer, key, 0, 9, *state, diverged=1e18)
        assert "triton" in traced.lower(lowering_platforms=("cuda",)).as_text()
