"""The loop over chains in rows of 128, on this machine: what it computes is the same everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import sgdsim as ss
from sgdsim._types import cast
from sgdsim.engine.plan import plan_run
from sgdsim.engine.plan.launch import launch_of
from sgdsim.engine.run.advance import MEMBERS_IN_PLACE, in_groups, neighbours
from sgdsim.engine.run.folded_steps import folded_steps
from sgdsim.kernels import make_kernel

FLOAT32 = np.dtype(np.float32)
ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
DENSE = ROTATION * np.array([1.0, 0.5, 0.2]) @ ROTATION.T
OPTIMIZERS = {
    "matrix rate": ss.SGD(0.1, momentum=0.8, preconditioner=DENSE),
    "vector rate": ss.SGD(0.1, preconditioner=[1.0, 0.5, 2.0], nesterov=True, momentum=0.5),
    "schedule": ss.AdamW(lambda t: 0.05 / (1 + 0.1 * t), weight_decay=0.1),
    "RMSProp": ss.RMSProp(0.05, eps=1e-3),
}


def kernel_of(problem, batch_size):
    return cast(make_kernel(problem, batch_size, "online", FLOAT32), FLOAT32)


def started(optimizer, start, chains):
    optimizer = cast(optimizer, FLOAT32)
    params = jnp.broadcast_to(jnp.asarray(start, FLOAT32)[:, None], (len(start), chains))
    return optimizer, (params, optimizer.as_optax().init(params), jnp.ones(chains, bool))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_noise_the_steps_are_those_of_the_optimizer(name):
    problem = ss.Quadratic(DENSE, np.zeros(3), minimum=[1.0, 0.0, -1.0])
    optimizer, (params, state, alive) = started(OPTIMIZERS[name], [0.5, 0.5, 0.5], 1030)  # not a multiple of 128
    params = params + jnp.linspace(0, 1, 1030)
    kernel = kernel_of(problem, 1)
    ended = folded_steps(kernel, optimizer, jax.random.key(0), 3, 23, params, state, alive, diverged=1e18)
    transform = optimizer.as_optax()
    for _ in range(20):
        update, state = transform.update(problem.gradient(params), state, params)
        params = params + update
    assert ended[2].all() and ended[1].count == 20
    np.testing.assert_allclose(ended[0], params, rtol=2e-5, atol=2e-6)
    for mine, theirs in zip(jax.tree.leaves(ended[1]), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_the_law_of_a_step_is_that_of_the_step_by_step_kernel(batch_size):
    """Two samples, Kolmogorov and Smirnov, of every coordinate and of the length; a shift of .08 deviations is seen."""
    problem = ss.LinearRegression(DENSE, label_noise=0.5, weight_decay=0.1)
    w, chains = np.array([0.3, 0.7, -0.4]), 40_000
    kernel = kernel_of(problem, batch_size)
    optimizer, state = started(ss.SGD(1.0), w, chains)
    drawn = np.asarray(jax.jit(kernel.draw)(jax.random.key(2), state[0], ())[0], np.float64)
    ended = folded_steps(kernel, optimizer, jax.random.key(3), 0, 1, *state, diverged=1e18)
    folded = w[:, None] - np.asarray(ended[0], np.float64)
    rows = [*zip(drawn, folded, strict=True), (np.linalg.norm(drawn, axis=0), np.linalg.norm(folded, axis=0))]
    assert min(stats.ks_2samp(a, b).pvalue for a, b in rows) > 1e-4 / 12
    assert max(stats.ks_2samp(a, b + 0.08 * b.std()).pvalue for a, b in rows) < 1e-4


def test_chains_neither_share_nor_repeat_their_random_numbers():
    optimizer, start = started(ss.SGD(1.0), [0.0, 0.0], 5000)
    kernel = kernel_of(ss.Quadratic(np.zeros(2), np.ones(2)), 1)  # w is the sum of its noise
    steps = [np.asarray(folded_steps(kernel, optimizer, jax.random.key(5), t, t + 1, *start, diverged=1e18)[0])
             for t in (0, 1)]  # fmt: skip
    pairs = np.concatenate(steps, axis=1)
    assert np.unique(pairs, axis=1).shape == pairs.shape
    assert len(np.unique(pairs)) > 0.999 * pairs.size  # a few of float32's numbers are drawn twice by chance


def test_a_diverged_chain_dies_and_stays_dead():
    optimizer, (params, state, alive) = started(ss.SGD(0.5), [1.0], 4)
    params = params.at[0, 1].set(jnp.nan).at[0, 2].set(4e18)  # the third comes back below the bound
    kernel, alive = kernel_of(ss.Quadratic([1.0], [0.0]), 1), alive.at[3].set(False)
    ended = folded_steps(kernel, optimizer, jax.random.key(0), 0, 5, params, state, alive, diverged=1e18)
    assert ended[2].tolist() == [True, False, False, False]
    assert ended[0][0, 2] < 1e18


def test_a_whole_run_agrees_with_theory(monkeypatch):
    monkeypatch.setattr(plan_run, "launch_of", lambda platform, *rest: launch_of("tpu", *rest))
    problem, optimizer = ss.LinearRegression([1.0, 0.5], label_noise=0.5), ss.SGD(0.3, preconditioner=[1.0, 0.5])
    result = ss.simulate(problem, optimizer, batch_size=8, chains=4000, steps=300, burn_in=60, seed=4)
    assert result.provenance["program"] == "loop of XLA operations, chains folded"
    assert result.provenance["steps_per_launch"] == "one" and result.status == "ok"
    prediction = ss.solver.predict(problem, optimizer, batch_size=8)
    rows = [row for row in ss.compare(result, prediction).rows if row.predicted]
    assert {row.verdict for row in rows} == {"agree"}
    off = {row.quantity: abs(row.simulated - 1.03 * row.predicted) / row.stderr for row in rows}
    assert len(off) >= 3 and min(off.values()) > 4, off  # 3% would be seen in each of them


def test_groups_of_neighbours_hold_every_chain_once():
    chains = jnp.arange(2 * 12).reshape(2, 12)
    grouped = neighbours(chains, 3)
    assert grouped.shape == (2, 4, 3)
    assert grouped[0].T.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    np.testing.assert_array_equal(neighbours(chains[1], 3), grouped[1])


@pytest.mark.parametrize(("members", "moved"), [(MEMBERS_IN_PLACE, True), (MEMBERS_IN_PLACE - 1, False)])
def test_only_large_groups_of_accelerators_are_of_neighbours(members, moved):
    """Padding is at the end of a block: small groups of neighbours would be empty."""
    x = jax.ShapeDtypeStruct((4 * members,), FLOAT32)
    traced = jax.jit(in_groups, static_argnums=1).trace(x, 4)
    text = {platform: traced.lower(lowering_platforms=(platform,)).as_text() for platform in ("cpu", "cuda", "tpu")}
    assert ["transpose" in text[p] for p in ("cpu", "cuda", "tpu")] == [False, moved, moved]
