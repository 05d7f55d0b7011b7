"""Experiments on a table or images of one's own, and the variance of the loss over and within runs."""

from __future__ import annotations

import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.experiments import list_experiments, run
from sgdsim.experiments.framework.networks import LossVariances, digits
from sgdsim.experiments.variance_of_gradients.shared import regression
from sgdsim.statistics import Measurement
from sgdsim.workflows import analyze, design_table


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {f"{name}_{part}": made for part, n in (("train", 9), ("test", 4))
              for name, made in (("x", rng.integers(0, 255, (n, 4, 4), np.uint8)), ("y", rng.integers(0, 3, n)))}
    np.savez(tmp_path / "own.npz", **arrays)
    return tmp_path / "own.npz", arrays


def test_images_in_the_layout_of_mnist(images):
    path, arrays = images
    found = digits(6, path)
    assert found.train.shape == (6, 16) and found.test.shape == (4, 16) and found.train.max() == 1
    np.testing.assert_allclose(found.train[2] * arrays["x_train"][:6].max(), arrays["x_train"][2].ravel())
    np.testing.assert_array_equal(found.test_labels, arrays["y_test"])


def test_a_file_that_is_none(tmp_path):
    np.savez(tmp_path / "half.npz", x_train=[[0.0]])
    with pytest.raises(ValueError, match="y_train"):
        digits(5, tmp_path / "half.npz")
    with pytest.raises(ValueError, match=r"nowhere.npz.*np.savez"):
        digits(5, tmp_path / "nowhere.npz")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("y_train", np.zeros(8), "got 8 for 9"), ("y_test", np.arange(4) - 1, "labels 0, 1"),
     ("y_test", [0.5], "and 1 for 4"), ("x_test", np.empty((0, 4, 4)), "for 0 to test on"),
     ("x_train", np.full((9, 4, 4), np.nan), "x_train"),
     ("x_train", np.zeros((9, 4, 4)), "positive pixels"), ("y_train", np.full(9, 1.5), "labels 0, 1")],
)  # fmt: skip
def test_arrays_that_are_no_images_and_labels(images, name, value, said):
    path, arrays = images
    np.savez(path, **{**arrays, name: value})
    with pytest.raises(ValueError, match=said):
        digits(9, path)


def test_passes_of_all_batch_sizes_need_their_images(images):
    with pytest.raises(ValueError, match="at least 512"):
        run("variance_fig4", inputs={"data": str(images[0])})


@pytest.mark.parametrize("start", ["experiment", "analyze", "design"])
def test_what_files_need_is_asked_for_before_the_work(monkeypatch, tmp_path, start):
    monkeypatch.setitem(sys.modules, "h5netcdf", None)
    monkeypatch.setattr(jax, "jit", None)  # nothing is computed
    work = {"experiment": lambda: run("fig4a", output=tmp_path),
            "analyze": lambda: analyze("diabetes", output=tmp_path),
            "design": lambda: design_table("diabetes", steps=9, output=tmp_path)}[start]
    with pytest.raises(ImportError, match=r"h5netcdf; pip install 'sgdsim\[results\]'"):
        work()
    assert not list(tmp_path.iterdir())


def test_a_table_of_ones_own(tmp_path):
    rows = np.random.default_rng(1).normal(size=(30, 3))
    np.savetxt(tmp_path / "own.csv", rows, delimiter=",", header="a,b,y", comments="")
    problem, name, sizes = regression(str(tmp_path / "own.csv"), "y", (8, 24, 240))
    assert (problem.n_examples, problem.dimension, name, sizes) == (30, 3, "own", [8, 24])
    with pytest.raises(ValueError, match="at least 40 rows"):
        regression(str(tmp_path / "own.csv"), "y", (8, 40))


def test_inputs_are_for_experiments_that_take_them():
    with pytest.raises(ValueError, match=r"None for fig2.*fig1_left, fig1_middle, fig1_right"):
        run("fig2", inputs={"data": "own.npz"})
    with pytest.raises(ValueError, match="which takes table, target"):
        run("variance_fig1_left", inputs={"data": "own.npz"})
    assert {e.id for e in list_experiments() if "table" in e.function.__annotations__} == {
        "variance_fig1_left", "variance_fig1_right"}  # fmt: skip


class Told(NamedTuple):
    """A problem whose loss is the only parameter."""

    def loss(self, w):
        return w[0]


def test_variances_of_the_loss_over_and_within_runs():
    losses = np.random.default_rng(2).normal(size=(7, 12)).cumsum(axis=0)
    statistic = LossVariances(Told(), 2, 3)
    memory = statistic.begin(jnp.zeros((1, 12)))
    for row in losses:
        memory = statistic.remember(memory, jnp.asarray(row)[None])
    at = Measurement(jnp.zeros((1, 3, 4)), jnp.zeros((1, 3, 4)), jnp.ones((3, 4)), jnp.zeros(1), Told(), memory)
    found = statistic.finalize(statistic.update(statistic.init(1, 4, np.float32), at))
    seen = losses[[2, 4, 6]]
    assert found["over_runs"][0] == pytest.approx(seen.var(axis=1, ddof=1).mean(), rel=1e-4)
    assert found["within_run"][0] == pytest.approx(seen.var(axis=0, ddof=1).mean(), rel=1e-4)
    assert found["within_run"][1] > 0


def test_random_runs_have_the_same_variance_both_ways():
    """A settled chain: over runs and, over well separated steps, within a run."""
    problem = ss.LinearRegression([1.0], label_noise=1.0)
    result = ss.simulate(problem, ss.SGD(0.5), batch_size=4, chains=2000, steps=601, burn_in=600, seed=1,
                         statistics=[LossVariances(problem, 20, 30)], progress=False)
    gap = result.within_run - result.over_runs
    assert abs(gap) < 4 * np.hypot(result.within_run_stderr, result.over_runs_stderr)
    assert 4 * np.hypot(result.within_run_stderr, result.over_runs_stderr) < 0.2 * result.over_runs


def test_distortions_move_pixels_and_keep_images():
    """Smooth shifts of a tenth to a pixel or so: a flat image stays, a slope changes by as much as pixels move."""
    from sgdsim.experiments.variance_of_gradients.variance_fig3b import distorted

    side = 28
    slope = np.tile(np.arange(side) + 10.0, (3000, side, 1))
    moved = distorted(slope.reshape(3000, -1), seed=0).reshape(3000, side, side)[:, 6:-6, 6:-6]
    shift = moved - slope[:, 6:-6, 6:-6]
    spread = 8 / (np.sqrt(3) * 2 * np.sqrt(np.pi) * 2)  # of uniform numbers under a normal filter of width 2
    assert shift.std() == pytest.approx(spread, rel=0.015)
    assert np.abs(np.diff(shift, axis=1)).std() < shift.std() / 2
