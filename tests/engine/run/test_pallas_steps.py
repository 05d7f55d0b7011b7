"""The programs that take many steps in a launch, emulated on this machine, and their lowering for GPUs and TPUs."""

import functools
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice
from scipy import stats

import sgdsim as ss
from sgdsim._types import cast
from sgdsim.engine.plan import launch, plan_run
from sgdsim.engine.plan.grid import batch_sizes, share
from sgdsim.engine.plan.launch import is_fusible, launch_of
from sgdsim.engine.plan.request import check_request
from sgdsim.engine.run.advance import Launch
from sgdsim.engine.run.mosaic_steps import mosaic_steps
from sgdsim.engine.run.pallas_steps import THREADS, pallas_steps
from sgdsim.engine.run.tpu_steps import LANES, SUBLANES, tpu_steps, vectors
from sgdsim.kernels import make_kernel

FLOAT32 = np.dtype(np.float32)
ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
DENSE = ROTATION * np.array([1.0, 0.5, 0.2]) @ ROTATION.T
PROGRAMS = {"GPU": pallas_steps, "TPU": tpu_steps}
PLATFORMS = {"GPU": "gpu", "TPU": "tpu"}
on_both = pytest.mark.parametrize("device", PROGRAMS)


def emulated(*args, device="GPU"):
    return PROGRAMS[device](*args, diverged=1e18, interpret=True)


def regression(covariance=(1.0, 0.5, 0.2), noise=0.5, weight_decay=0.0):
    return ss.LinearRegression(np.array(covariance), label_noise=noise, weight_decay=weight_decay,
                               teacher=np.array([1.0, -1.0, 0.5])[: len(covariance)])  # fmt: skip


def kernel_of(problem, batch_size):
    return cast(make_kernel(problem, batch_size, "online", FLOAT32), FLOAT32)


def started(optimizer, start, chains):
    """An optimizer in float32 and what `pallas_steps` takes after it: parameters, state, alive."""
    optimizer = cast(optimizer, FLOAT32)
    params = jnp.broadcast_to(jnp.asarray(start, FLOAT32)[:, None], (len(start), chains))
    return optimizer, (params, optimizer.as_optax().init(params), jnp.ones(chains, bool))


def gradients(problem, batch_size, start, chains, seed, device="GPU"):
    """One gradient for each chain at `start`: what a step of SGD at rate 1 subtracts."""
    optimizer, state = started(ss.SGD(1.0), start, chains)
    kernel, key = kernel_of(problem, batch_size), jax.random.key(seed)
    params, _, alive = emulated(kernel, optimizer, key, 0, 1, *state, device=device)
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
    k, d = problem.input_second_moment, w - problem.effective_teacher
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


@on_both
@pytest.mark.parametrize("name", LAWS)
def test_one_step_has_the_mean_and_covariance_of_a_minibatch(name, device, assert_within_sigma):
    problem, batch_size = LAWS[name]
    w = np.array([0.3, 0.7, -0.4])[: problem.dimension]
    z = z_scores(gradients(problem, batch_size, w, 60_000, 1, device), *moments(problem, batch_size, w))
    assert_within_sigma(z, 0, 1, comparisons=18 * len(LAWS))


def test_a_covariance_off_by_three_percent_would_be_seen(assert_within_sigma):
    problem, batch_size = LAWS["b=64, quantile"]
    w = np.array([0.3, 0.7, -0.4])
    mean, covariance = moments(problem, batch_size, w)
    g = gradients(problem, batch_size, w, 60_000, 1)
    with pytest.raises(AssertionError):
        assert_within_sigma(z_scores(g, mean, 1.03 * covariance), 0, 1, comparisons=9 * len(LAWS))


@on_both
def test_the_whole_law_is_that_of_the_step_by_step_kernel(device):
    """Two samples, Kolmogorov and Smirnov, of every coordinate and of the length; a shift of .08 deviations is seen."""
    problem, w, chains = regression(), np.array([0.3, 0.7, -0.4]), 40_000
    kernel = kernel_of(problem, 5)
    point = jnp.broadcast_to(jnp.asarray(w, FLOAT32)[:, None], (3, chains))
    drawn = np.asarray(jax.jit(kernel.draw)(jax.random.key(2), point, ())[0], np.float64)
    fused = gradients(problem, 5, w, chains, 3, device)
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


@on_both
@pytest.mark.parametrize("name", ["momentum", "Adam", "RMSProp"])
def test_without_noise_the_steps_are_those_of_the_optimizer(name, device):
    problem = ss.Quadratic(DENSE, np.zeros(3), minimum=[1.0, 0.0, -1.0])
    kernel = kernel_of(problem, 1)
    optimizer, (params, state, alive) = started(OPTIMIZERS[name], [0.5, 0.5, 0.5], 5)
    assert is_fusible(kernel, optimizer, 3)
    params = params + jnp.linspace(0, 1, 5)
    ended = emulated(kernel, optimizer, jax.random.key(0), 3, 23, params, state, alive, device=device)
    transform = optimizer.as_optax()
    for _ in range(20):
        update, state = transform.update(problem.gradient(params), state, params)
        params = params + update
    assert ended[2].all() and ended[1].count == state.count == 20
    np.testing.assert_allclose(ended[0], params, rtol=2e-5, atol=2e-6)
    for mine, theirs in zip(jax.tree.leaves(ended[1]), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-6)


MANY = {"GPU": 2 * THREADS + 44, "TPU": 2 * vectors(2) * SUBLANES * LANES + 44}  # programs of chains, and a few more


@on_both
def test_chains_neither_share_nor_repeat_their_random_words(device):
    problem = ss.Quadratic(np.zeros(2), np.ones(2))  # w is the sum of its noise
    optimizer, start = started(ss.SGD(1.0), [0.0, 0.0], MANY[device])
    at = functools.partial(emulated, kernel_of(problem, 1), optimizer, jax.random.key(5), device=device)
    steps = [np.asarray(at(t, t + 1, *start)[0]) for t in (0, 1)]
    pairs = np.concatenate(steps, axis=1)
    assert np.unique(pairs, axis=1).shape == pairs.shape
    assert len(np.unique(pairs)) > 0.999 * pairs.size  # a few of float32's numbers are drawn twice by chance
    # Two steps are one after the other, and one chain more or less changes no other chain.
    np.testing.assert_allclose(at(0, 2, *start)[0], steps[0] + steps[1], rtol=1e-6, atol=1e-6)
    fewer = started(ss.SGD(1.0), [0.0, 0.0], THREADS - 1)[1]
    np.testing.assert_array_equal(at(0, 1, *fewer)[0], steps[0][:, : THREADS - 1])


@pytest.mark.parametrize(("batch_size", "name"), [(64, "Adam"), pytest.param(5, "RMSProp", marks=pytest.mark.slow)])
def test_all_programs_give_the_same_chains(batch_size, name):
    kernel, (optimizer, start) = kernel_of(regression(), batch_size), started(OPTIMIZERS[name], np.zeros(3), 300)
    ended = [program(kernel, optimizer, jax.random.key(3), 5, 25, *start, diverged=1e18, interpret=True)
             for program in (pallas_steps, tpu_steps, mosaic_steps)]  # fmt: skip
    for other in ended[1:]:
        np.testing.assert_allclose(ended[0][0], other[0], rtol=1e-5, atol=1e-6)
        assert ended[0][1].count == other[1].count == 20 and other[2].all()


@on_both
def test_a_diverged_chain_dies_and_stays_dead(device):
    problem = ss.Quadratic([1.0], [0.0])
    optimizer, (params, state, alive) = started(ss.SGD(0.5), [1.0], 4)
    params = params.at[0, 1].set(jnp.nan).at[0, 2].set(4e18)  # the third comes back below the bound
    alive = alive.at[3].set(False)
    ended = emulated(kernel_of(problem, 1), optimizer, jax.random.key(0), 0, 5, params, state, alive, device=device)
    assert ended[2].tolist() == [True, False, False, False]
    assert ended[0][0, 2] < 1e18


@on_both
def test_a_whole_run_agrees_with_theory(device, monkeypatch):
    fused = Launch("emulated", functools.partial(PROGRAMS[device], interpret=True))
    monkeypatch.setattr(plan_run, "launch_of", lambda platform, *rest: launch_of(PLATFORMS[device], *rest) and fused)
    problem, optimizer = ss.LinearRegression([1.0, 0.5], label_noise=0.5), ss.SGD(0.3)
    result = ss.simulate(problem, optimizer, batch_size=8, chains=4000, steps=300, burn_in=60, seed=4)
    assert result.provenance["steps_per_launch"] == "many" and result.provenance["program"] == "emulated"
    assert result.status == "ok"
    prediction = ss.solver.predict(problem, optimizer, batch_size=8)
    assert {row.verdict for row in ss.compare(result, prediction).rows} == {"agree"}
    rows = [row for row in ss.compare(result, prediction).rows if row.predicted]
    off = {row.quantity: abs(row.simulated - 1.03 * row.predicted) / row.stderr for row in rows}
    assert len(off) == 4 and min(off.values()) > 4, off  # 3% would be seen in each of them


def asked(problem, optimizer, **options):
    request = check_request(problem, optimizer, chains=10, steps=10, dtype=options.get("dtype", "float32"))
    grid = batch_sizes(problem, optimizer, options.get("batch_size", [8]), None)(request)
    kernels = [make_kernel(problem, int(size), grid.sampling, request.dtype) for [size] in grid.batches]
    return launch_of(options.get("platform", "gpu"), share(problem, kernels, grid, request), request)


def test_it_is_used_where_it_applies_and_nowhere_else():
    problem = regression()
    assert asked(problem, ss.SGD(0.1)) .take is pallas_steps
    assert asked(problem, ss.SGD(0.1), platform="tpu").take is tpu_steps
    assert asked(problem, ss.SGD(0.1), platform="cpu") is None
    assert asked(problem, ss.SGD(0.1), dtype="float64") is None
    assert asked(problem, ss.SGD(lambda t: 0.1)) is None
    assert asked(problem, ss.SGD(0.1, preconditioner=[1.0, 1.0, 2.0])) is None
    assert asked(problem, ss.AdamMini(0.1, blocks=[[0, 1], [2]])) is None
    assert asked(problem, ss.SGD(0.1), batch_size=[4, 8]) is None
    assert asked(problem, ss.SGD(0.1), batch_size=[16, 64]) .take is pallas_steps
    assert asked(ss.LinearRegression(np.ones(20)), ss.SGD(0.1)) .take is pallas_steps
    assert asked(ss.LinearRegression(np.ones(21)), ss.SGD(0.1)) is None
    assert asked(ss.LinearRegression(np.eye(12)), ss.SGD(0.1)) is None


@pytest.mark.parametrize(("capability", "program"), [(9.0, mosaic_steps), (8.0, None)])
def test_without_triton_newer_gpus_have_mosaic_and_others_the_loop(capability, program, monkeypatch):
    """Later versions of JAX will have no Triton."""
    monkeypatch.setitem(sys.modules, "jax.experimental.pallas.triton", None)
    monkeypatch.setattr(launch, "compute_capability", lambda: capability)
    found = asked(regression(), ss.SGD(0.1))
    assert (found and found.take) is program
    assert asked(regression(), ss.SGD(0.1), platform="tpu").take is tpu_steps


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")  # from jax 0.11 on
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_lowers_for_a_gpu(name):
    """To Triton's IR, which needs no GPU; what XLA makes of it there does."""
    kernel, (optimizer, state) = kernel_of(regression(DENSE), 8), started(OPTIMIZERS[name], np.zeros(3), 300)
    key = jax.random.key(0)
    h200 = jax.sharding.AbstractMesh((1,), ("x",), abstract_device=AbstractDevice("NVIDIA H200", 132, "gpu"))
    with jax.sharding.use_abstract_mesh(h200):
        traced = pallas_steps.trace(kernel, optimizer, key, 0, 9, *state, diverged=1e18)
        assert "triton" in traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_lowers_for_a_tpu(name):
    kernel, (optimizer, state) = kernel_of(regression(DENSE), 8), started(OPTIMIZERS[name], np.zeros(3), 300)
    traced = tpu_steps.trace(kernel, optimizer, jax.random.key(0), 0, 9, *state, diverged=1e18)
    assert "tpu_custom_call" in traced.lower(lowering_platforms=("tpu",)).as_text()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [5, 64])
def test_it_lowers_for_a_newer_gpu_by_mosaic(name, batch_size):
    kernel = kernel_of(regression(DENSE), batch_size)
    optimizer, state = started(OPTIMIZERS[name], np.zeros(3), 300)
    h100 = jax.sharding.AbstractMesh((1,), ("x",), abstract_device=AbstractDevice("NVIDIA H100", 132, "gpu"))
    key = jax.random.key(0)
    with jax.sharding.use_abstract_mesh(h100):
        traced = mosaic_steps.trace(kernel, optimizer, key, 0, 9, *state, diverged=1e18)
        assert "mosaic_gpu" in traced.lower(lowering_platforms=("cuda",)).as_text()
