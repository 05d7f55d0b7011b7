"""Averages of numbers of each chain, against the same numbers of the chains that a run starts from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import sgdsim as ss
from sgdsim.statistics import Average, Curvature, GradientL1, HessianTrace, NoiseScale

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 2))
NETWORK = ss.FlaxNetwork(nn.Sequential([nn.Dense(3), nn.tanh, nn.Dense(1)]), X, np.sin(2 * X[:, 0]))
STARTS = NETWORK.default_start + 0.3 * RNG.normal(size=(4096, NETWORK.dimension))


def measured(*wanted):
    """Of the starts themselves: the weights before the first step."""
    return ss.simulate(NETWORK, ss.SGD(0.1), batch_size=2, chains=len(STARTS), steps=1, initial=STARTS, dtype="float64",
                       statistics=list(wanted), progress=False)


@pytest.fixture(scope="module")
def hessians():
    with jax.enable_x64(True):
        return np.asarray(jax.jit(lambda rows: jax.lax.map(NETWORK.hessian, rows, batch_size=64))(jnp.asarray(STARTS)))


def test_curvature_and_its_trace_by_signs(hessians, assert_within_sigma):
    result = measured(Curvature(powers=[1.0, 0.5]), HessianTrace(probes=8))
    diagonal = np.maximum(np.diagonal(hessians, axis1=1, axis2=2), 0)
    assert result.curvature_1 == pytest.approx(diagonal.sum(axis=1).mean(), rel=1e-9)
    assert getattr(result, "curvature_0.5") == pytest.approx(np.sqrt(diagonal).sum(axis=1).mean(), rel=1e-9)
    trace = np.trace(hessians, axis1=1, axis2=2)
    # what the signs add: the variance of z'Hz is twice the squares off the diagonal, over 8 probes
    off = 1 / 4 * (np.sum(hessians**2, axis=(1, 2)) - np.sum(np.diagonal(hessians, axis1=1, axis2=2) ** 2, axis=1))
    error = np.sqrt(off.sum()) / len(STARTS)
    assert error < 0.01 * trace.mean()
    assert_within_sigma(result.hessian_trace, trace.mean(), error)
    with pytest.raises(AssertionError):
        assert_within_sigma(result.hessian_trace, 1.06 * trace.mean(), error)
    expected = np.sqrt((trace.var() + off.mean()) / len(STARTS))
    assert result.hessian_trace_stderr == pytest.approx(expected, rel=0.5)


@pytest.mark.slow
def test_powers_of_an_estimated_diagonal(hessians, assert_within_sigma):
    """At p = 1 without bias; at 1/2 with one that many probes take away."""
    few, many = (measured(Curvature(powers=[1.0, 0.5], probes=k)) for k in (2, 128))
    trace = np.trace(hessians, axis1=1, axis2=2)
    root = np.sqrt(np.maximum(np.diagonal(hessians, axis1=1, axis2=2), 0)).sum(axis=1).mean()
    assert_within_sigma(many.curvature_1, trace.mean(), many.curvature_1_stderr)
    bias = [abs(getattr(found, "curvature_0.5") / root - 1) for found in (few, many)]
    assert bias[1] < 0.02 < bias[0]


def test_gradients_and_a_function_of_ones_own():
    result = measured(GradientL1(), NoiseScale(), Average({"size": lambda problem, w: jnp.sum(w**2)}))
    with jax.enable_x64(True):
        w = jnp.asarray(STARTS.T)
        each = np.stack([np.asarray(NETWORK.each_chain(
            lambda v, i=i: NETWORK.example_gradient(v, (jnp.asarray(X)[i], jnp.asarray(NETWORK.targets)[i])), w, 1))
            for i in range(6)])  # fmt: skip
    g = each.mean(axis=0)
    assert result.gradient_l1 == pytest.approx(np.abs(g).sum(axis=0).mean(), rel=1e-9)
    trace, square = np.sum((each - g) ** 2, axis=(0, 1)) / 6, np.sum(g**2, axis=0)
    assert result.noise_trace == pytest.approx(trace.mean(), rel=1e-9)
    assert result.gradient_square == pytest.approx(square.mean(), rel=1e-9)
    assert result.noise_scale == pytest.approx((trace / square).mean(), rel=1e-9)
    assert result.size == pytest.approx(np.sum(STARTS**2, axis=1).mean(), rel=1e-12)
    assert result.size_stderr == pytest.approx(np.sum(STARTS**2, axis=1).std() / 64, rel=0.5)


def test_a_population_has_no_noise_scale():
    with pytest.raises(ValueError, match="data set"):
        ss.simulate(ss.LinearRegression([1.0], label_noise=1.0), ss.SGD(0.1), batch_size=1, chains=64, steps=2,
                    statistics=[NoiseScale()], progress=False)
