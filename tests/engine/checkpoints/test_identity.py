"""A checkpoint belongs to one run: what cannot be told apart by its numbers is told apart by its program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgdsim as ss

RUN = {"batch_size": 2, "chains": 64, "steps": 40}
X = np.linspace(-1.0, 1.0, 12).reshape(6, 2)
Y = np.array([1.0, 0.0, 2.0, -1.0, 0.5, 0.3])
LINEAR = ss.LinearRegression([1.0, 0.5], label_noise=0.5)


def loss_of(power, scale=1.0):
    def loss(w, x, y):
        return scale * jnp.abs(x @ w - y) ** power

    return loss


def network(activation):
    return ss.FlaxNetwork(nn.Sequential([nn.Dense(3), activation, nn.Dense(1)]), X, Y, "mse")


def late(t_changes):
    return lambda t: jnp.where(t < t_changes, 0.1, 0.2)


def listed(last):
    return lambda t: jnp.asarray([0.1] * 39 + [last])[t]


PAIRS = {
    "two losses": [(ss.FromLoss(loss_of(p), X, Y, [0.1, 0.2]), ss.SGD(0.1)) for p in (2.0, 4.0)],
    "two closure constants": [(ss.FromLoss(loss_of(2.0, c), X, Y, [0.1, 0.2]), ss.SGD(0.1)) for c in (1.0, 1.001)],
    "two activations": [(network(f), ss.SGD(0.1)) for f in (nn.tanh, nn.sigmoid)],
    "two schedules that differ late": [(LINEAR, ss.SGD(late(t))) for t in (37, 38)],
    "two tables of rates": [(LINEAR, ss.SGD(listed(rate))) for rate in (0.1, 0.2)],
    "two transformations": [(LINEAR, optax.chain(optax.clip(c), optax.sgd(0.1))) for c in (30.0, 31.0)],
    "two optax schedules": [
        (LINEAR, optax.sgd(optax.piecewise_constant_schedule(0.1, {t: 0.5}))) for t in (37, 38)],
}  # fmt: skip


FAST = ("two losses", "two closure constants", "two schedules that differ late")


@pytest.mark.parametrize("pair", [p if p in FAST else pytest.param(p, marks=pytest.mark.slow) for p in PAIRS])
def test_another_run_is_refused_and_the_same_goes_on(pair, tmp_path):
    (problem, optimizer), (other, changed) = PAIRS[pair]
    first = ss.simulate(problem, optimizer, **RUN, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"differs in .*program"):
        ss.simulate(other, changed, **RUN, checkpoint=tmp_path)
    again = ss.simulate(problem, optimizer, **RUN, checkpoint=tmp_path)
    assert again.provenance["resumed_from_step"] == RUN["steps"]
    np.testing.assert_array_equal(again.mean, first.mean)


def called_back(rate):
    def host(t):
        return np.full(np.shape(t), rate, np.float32)

    return ss.SGD(lambda t: jax.pure_callback(host, jax.ShapeDtypeStruct((), jnp.float32), t,
                                              vmap_method="expand_dims"))


def test_what_no_program_tells_apart_needs_a_name(tmp_path):
    with pytest.raises(ValueError, match=r"calls back into Python.*name="):
        ss.simulate(LINEAR, called_back(0.1), **RUN, checkpoint=tmp_path)
    first = ss.simulate(LINEAR, called_back(0.1), **RUN, checkpoint=ss.Checkpoint(tmp_path, name="slow"))
    with pytest.raises(ValueError, match="differs in name"):
        ss.simulate(LINEAR, called_back(0.2), **RUN, checkpoint=ss.Checkpoint(tmp_path, name="fast"))
    again = ss.simulate(LINEAR, called_back(0.1), **RUN, checkpoint=ss.Checkpoint(tmp_path, name="slow"))
    np.testing.assert_array_equal(again.mean, first.mean)


SCRIPT = """
import json, sys, jax.numpy as jnp, numpy as np, sgdsim as ss
scale = np.arange(5000.0)  # a constant of the program, too large to be printed
def loss(w, x, y):
    return float(sys.argv[2]) * (x @ w - y) ** 2 + 0 * scale[3] + 1e-9 * jnp.sum(jnp.asarray(scale)[:3] * w[0])
problem = ss.FromLoss(loss, np.ones((4, 2)), np.arange(4.0), [0.0, 0.0])
try:
    result = ss.simulate(problem, ss.SGD(0.1), batch_size=2, chains=64, steps=40, checkpoint=sys.argv[1])
    print(json.dumps(result.provenance["resumed_from_step"]))
except ValueError as refused:
    print(json.dumps(str(refused)))
"""


def test_another_process_knows_its_run_again(tmp_path):
    def once(scale):
        done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "run"), scale], capture_output=True,
                              text=True, check=True, cwd=Path(__file__).resolve().parents[3])
        return json.loads(done.stdout)

    assert once("0.5") is None
    assert once("0.5") == 40
    assert "program" in once("0.6")
