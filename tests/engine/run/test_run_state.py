"""A run that goes on from the state of another is the run that never stopped, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgdsim as ss
from sgdsim.optimizers.adaptive import AdaptiveState

GAUSSIAN = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
DATA = ss.DatasetRegression(np.random.default_rng(0).normal(size=(10, 2)), np.arange(10.0))
NOISY = optax.chain(optax.add_noise(0.01, 0.0, 0), optax.sgd(0.1, momentum=0.5))
SMALL = {"batch_size": 3, "chains": 301, "seed": 3, "statistics": (), "progress": False}  # two blocks, 150 and 151
CASES = {
    "adam": (GAUSSIAN, ss.Adam(0.01), {}),
    "momentum": (GAUSSIAN, ss.SGD(0.1, 0.9), {"dtype": "float64"}),
    "epochs": (DATA, ss.SGD(0.1), {"sampling": "epochs", "passes": 2}),
    "optax": (GAUSSIAN, NOISY, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in ("adam", "momentum") else name
                                  for name in CASES])
def test_two_halves_are_one_run(name):
    problem, optimizer, rest = CASES[name]
    settings = SMALL | rest
    whole = ss.simulate(problem, optimizer, steps=37, keep_state=True, **settings)
    half = ss.simulate(problem, optimizer, steps=17, keep_state=True, **settings)
    again = ss.simulate(problem, optimizer, steps=20, initial_state=half.state, keep_state=True, **settings)
    np.testing.assert_array_equal(again.final, whole.final)
    jax.tree.map(np.testing.assert_array_equal, again.state, whole.state)
    assert again.state.step == 37
    np.testing.assert_array_equal(again.state.params, again.final)
    weights_alone = ss.simulate(problem, optimizer, steps=20, initial=half.final, **settings)
    assert not np.array_equal(weights_alone.final, whole.final)


def test_it_is_kept_only_when_asked_for():
    result = ss.simulate(GAUSSIAN, ss.Adam(0.01), steps=5, **SMALL)
    assert result.state is None


def test_a_second_moment_of_ones_own():
    """Of one quadratic without noise: the first step is lambda m^ / sqrt(v), by hand."""
    problem = ss.Quadratic([2.0, 1.0], [0.0, 0.0])
    optimizer = ss.Adam(0.1, b1=0.0, b2=0.9, eps=0.0, bias_correction=False)
    v = np.array([3.0, 0.5])
    start = np.array([1.0, 2.0])
    state = AdaptiveState(np.zeros(2) if optimizer.b1 is not None else None, v, np.int32(0))
    state = state._replace(m=optimizer.as_optax().init(jnp.zeros(2)).m)
    run = ss.simulate(problem, optimizer, batch_size=1, chains=4, steps=1, initial=start, initial_state=state,
                      statistics=(), keep_state=True, dtype="float64", progress=False)
    slope = np.array([2.0, 1.0]) * start
    new = 0.9 * v + 0.1 * slope**2
    np.testing.assert_allclose(run.state.optimizer.v, np.tile(new, (4, 1)), rtol=1e-14)
    np.testing.assert_allclose(run.final, np.tile(start - 0.1 * slope / np.sqrt(new), (4, 1)), rtol=1e-14)


def test_a_resumed_run_has_checkpoints_of_its_own(tmp_path):
    half = ss.simulate(GAUSSIAN, ss.Adam(0.01), steps=17, keep_state=True, **SMALL)
    first = ss.simulate(GAUSSIAN, ss.Adam(0.01), steps=20, initial_state=half.state, checkpoint=tmp_path, **SMALL)
    same = ss.simulate(GAUSSIAN, ss.Adam(0.01), steps=20, initial_state=half.state, checkpoint=tmp_path, **SMALL)
    np.testing.assert_array_equal(first.final, same.final)
    other = half.state._replace(step=3)
    with pytest.raises(ValueError, match="initial_state"):
        ss.simulate(GAUSSIAN, ss.Adam(0.01), steps=20, initial_state=other, checkpoint=tmp_path, **SMALL)


@pytest.mark.parametrize(("change", "says"), [
    (lambda state: {"initial_state": state._replace(params=state.params[:5])}, r"weights of shape \(5, 2\)"),
    (lambda state: {"initial_state": state._replace(params=state.params + np.inf)}, "301 diverged chains"),
    (lambda state: {"initial_state": state._replace(step=-1)}, "after -1 steps"),
    (lambda state: {"initial_state": state._replace(optimizer=())}, "another optimizer"),
    (lambda state: {"initial_state": state._replace(optimizer=state.optimizer._replace(v=np.ones(2)))},
     r"shape \(2,\)"),
    (lambda state: {"initial_state": 3.0}, "another optimizer"),
    (lambda state: {"initial_state": state, "initial": [0.0, 0.0]}, "initial is"),
    (lambda state: {"initial_state": state, "control_variate": True}, "control_variate"),
    (lambda state: {"initial_state": state, "batch_size": [1, 2, 3, 4, 5]}, "batch_size"),
    (lambda state: {"keep_state": 1.0}, "keep_state"),
])  # fmt: skip
def test_states_of_other_runs_are_refused(change, says):
    dim = (SMALL["chains"], 2)
    moments = AdaptiveState(np.zeros(dim), np.ones(dim), np.int32(4))
    state = ss.RunState(4, np.zeros(dim), moments, ((),))
    with pytest.raises(ValueError, match=says):
        ss.simulate(GAUSSIAN, ss.Adam(0.01), steps=5, **(SMALL | change(state)))
