"""XLA's loop as it is handed to a GPU's compiler: what no GPU is needed to see."""

import re
import warnings

import jax
import numpy as np
import pytest
from flax import linen as nn

import sgdsim as ss
from sgdsim.engine.plan.blocks import plan_blocks
from sgdsim.engine.plan.devices import precision
from sgdsim.engine.plan.grid import batch_sizes, share
from sgdsim.engine.plan.request import check_request
from sgdsim.engine.run.advance import Unit, advance, begin, lowering
from sgdsim.kernels import make_kernel

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 10))
DATA = ss.DatasetRegression(X, X @ np.ones(10) + RNG.normal(size=64))
NETWORK = ss.FlaxNetwork(nn.Sequential([nn.Dense(4), nn.tanh, nn.Dense(1)]), X, X[:, 0] ** 2, "mse")
OURS = {
    "dense, D=30": (ss.LinearRegression(np.eye(30) + 0.1), 8, None),
    "replaced": (DATA, 16, "with_replacement"),
    "subsets": (DATA, 16, "without_replacement"),
    "epochs": (DATA, 16, "epochs"),
    "linear network": (ss.TwoLayerLinear(RNG.normal(size=(6, 4)), RNG.normal(size=(3, 6))), 16, None),
    "diagonal network": (ss.DiagonalNetwork(np.sign(RNG.normal(size=(40, 10))), teacher=np.eye(10)[0]), 10, None),
}


def program(problem, batch_size, sampling, statistics=None):
    """StableHLO of `advance` for a GPU."""
    request = check_request(problem, ss.SGD(0.1), chains=2**17, steps=1000, burn_in=500, dtype="float32",
                            statistics=statistics)  # fmt: skip
    grid = batch_sizes(problem, ss.SGD(0.1), [batch_size], sampling)(request)
    kernels = [make_kernel(problem, batch_size, grid.sampling, request.dtype)]
    blocks = plan_blocks(request.chains, request.dimension, "gpu")
    shared = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), share(problem, kernels, grid, request))
    number = jax.ShapeDtypeStruct((blocks.number,), np.int32)
    unit = Unit(number, number, jax.ShapeDtypeStruct((blocks.number,), jax.random.key(0).dtype))
    params = jax.ShapeDtypeStruct((blocks.number, request.dimension, blocks.size), request.dtype)
    alive = jax.ShapeDtypeStruct((blocks.number, blocks.size), bool)
    counts = [jax.ShapeDtypeStruct((), dtype) for dtype in (np.int32, np.int32, np.int32, np.bool_)]
    with precision(request.dtype):
        states = begin.eval_shape(shared, unit, params, alive, transform=None, mesh=None)
        traced = advance.trace(shared, unit, states, *counts, groups=blocks.groups, transform=None, mesh=None)
        return traced.lower(lowering_platforms=("cuda",)).as_text()


def products(text):
    """The precisions of all matrix products."""
    return re.findall(r"stablehlo\.dot_general .*?precision = \[(\w+), (\w+)\]", text)


@pytest.mark.parametrize("name", [*OURS, "flax"])
def test_products_are_in_full_and_nothing_returns_to_the_host_within_a_segment(name):
    text = program(*OURS.get(name, (NETWORK, 8, None)))
    assert products(text) and set(products(text)) == {("HIGHEST", "HIGHEST")}
    assert text.count("dot_general ") == len(products(text))  # one without a precision has the default
    assert text.count("stablehlo.while") >= 2  # rounds, and steps of a round
    assert not re.findall(r"stablehlo\.(custom_call|infeed|outfeed|send|recv)", text)


def test_a_networks_chains_are_one_slice():
    """On a CPU slices of chains follow one another; on a GPU nothing but blocks, rounds and steps is a loop."""
    assert program(NETWORK, 8, "with_replacement", statistics=()).count("stablehlo.while") == 3


@pytest.mark.parametrize("name", OURS)
def test_chains_stay_the_last_axis_of_a_step(name):
    """A factor of a matrix product may be read the other way round; whole blocks are not laid out again."""
    dims = re.findall(r"stablehlo\.transpose .*?dims = \[([\d, ]+)\]", program(*OURS[name], statistics=()))
    moved = [list(map(int, d.split(","))) for d in dims]
    assert all(d[-1] == len(d) - 1 for d in moved), moved
    assert "network" in name or not moved


def test_a_precision_that_the_user_has_set_counts():
    with jax.default_matmul_precision("high"):
        assert set(products(program(NETWORK, 8, None, statistics=()))) == {("HIGH", "HIGH"), ("HIGHEST", "HIGHEST")}


def test_that_triton_will_go_is_no_news():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("error")
        with lowering():
            warnings.warn("The Pallas Triton backend is deprecated and will", DeprecationWarning, stacklevel=1)
        with pytest.raises(DeprecationWarning), lowering():
            warnings.warn("something else is deprecated", DeprecationWarning, stacklevel=1)
    assert not seen
