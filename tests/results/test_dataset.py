import dataclasses
import json

import numpy as np
import pytest

import sgdsim as ss
from sgdsim import _labels

xr = pytest.importorskip("xarray")

ORIGIN = {"problem": "<script>alert('P')</script>", "optimizer": "SGD(0.1)", "batch_size": 4, "seed": 0, "steps": 10}


def example(chains=5, alive=4, dimension=2, **changes):
    rng = np.random.default_rng(1)
    quantities = {
        "mean": (rng.normal(size=dimension), np.full(dimension, 0.1)),
        "covariance": (np.eye(dimension), np.full((dimension, dimension), 0.01)),
        "test_loss": (np.float64(0.25), np.float64(0.001)), "sharpness": (np.float64(2.0), np.float64(0.5)),
        **changes.pop("quantities", {}),
    }  # fmt: skip
    known = {
        "quantities": {name: ss.results.Quantity(*pair) for name, pair in quantities.items() if pair is not None},
        "ess": np.full(dimension, 100.0), "tail": np.array([3.0, 2.0]), "tail_group": np.array([0, 1]),
        "final": rng.normal(size=(chains, dimension)), "snapshots": rng.normal(size=(3, alive, dimension)),
        "record": {"step": np.array([0, 4]), "test_loss": np.array([1.0, 0.5]), "mean": np.zeros((2, dimension))},
        "chains": chains, "diverged": chains - alive, "status": "ok", "provenance": dict(ORIGIN),
        "rhat": np.ones(dimension),
    }  # fmt: skip
    return ss.Result(**{**known, **changes})


def test_dimensions_have_names():
    dataset = example().to_xarray()
    assert dataset["mean"].dims == ("parameter",)
    assert dataset["covariance"].dims == ("parameter", "parameter_")
    assert dataset["final"].dims == ("chain", "parameter")
    assert dataset["snapshots"].dims == ("snapshot", "snapshot_chain", "parameter")
    assert dataset["record_test_loss"].dims == ("step",) and dataset["record_mean"].dims == ("step", "parameter")
    assert dataset["step"].values.tolist() == [0, 4] and int(dataset["batch_size"]) == 4
    assert dataset["sharpness"].dims == () and json.loads(dataset.attrs["provenance"]) == ORIGIN


def test_units_and_equations():
    dataset = example().to_xarray()
    for name, variable in dataset.data_vars.items():
        assert variable.attrs["description"], name
    assert dataset["covariance"].attrs["units"] == "w^2" and dataset["covariance"].attrs["equation"] == "[3]"
    assert dataset["covariance_stderr"].attrs["description"].startswith("standard error of: stationary covariance")
    assert "Strength of Minibatch Noise" in dataset.attrs["equations"]
    arrays = {field.name for field in dataclasses.fields(ss.Result) if field.type.startswith("np.ndarray")}
    assert {"ess", "tail", "final"} <= arrays and (arrays | {*_labels.QUANTITIES}) - set(_labels.LABELS) == set()


def test_a_sweep_has_its_axes_in_front_and_is_filled_up():
    other = {"test_loss": (np.float64(0.75), np.float64(0.1))}
    points = [example(alive=4), example(alive=2, quantities=other), example(),
              example(tail=np.array([9.0]), tail_group=np.array([5]), quantities={"sharpness": None})]  # fmt: skip
    points[1].provenance["optimizer"] = "SGD(0.2)"
    grid = ss.SweepResult({"batch_size": [1, 2], "learning_rate": [0.1, 0.2]}, points)
    dataset = grid.to_xarray()
    assert dataset["covariance"].dims == ("batch_size", "learning_rate", "parameter", "parameter_")
    np.testing.assert_array_equal(dataset["final"].values, grid.final)
    assert float(dataset["test_loss"].sel(batch_size=1, learning_rate=0.2)) == 0.75
    short = dataset["snapshots"].sel(batch_size=1, learning_rate=0.2).values
    np.testing.assert_array_equal(short[:, :2], points[1].snapshots)
    assert np.isnan(short[:, 2:]).all() and short.shape == (3, 4, 2)
    assert dataset["tail_group"].values[1, 1].tolist() == [5, -1] and np.isnan(dataset["tail"].values[1, 1, 1])
    assert np.isnan(dataset["sharpness"].values[1, 1]) and dataset["diverged"].values.tolist() == [[1, 3], [1, 1]]
    assert "optimizer" not in json.loads(dataset.attrs["provenance"])
    assert grid.to_xarray().mean("learning_rate")["test_loss"].dims == ("batch_size",)


def test_draws_for_arviz():
    arviz = pytest.importorskip("arviz")
    result = example()
    data = result.to_arviz()
    assert data.posterior["w"].dims == ("chain", "draw", "parameter")
    np.testing.assert_array_equal(data.posterior["w"].values, result.snapshots.swapaxes(0, 1))
    means = arviz.summary(data, kind="stats", round_to="none")["mean"].to_numpy(float)
    np.testing.assert_allclose(means, result.snapshots.mean(axis=(0, 1)))
    result.final[0] = np.nan
    last = result.to_arviz(source="final").posterior["w"].values
    np.testing.assert_array_equal(last[:, 0], result.final[1:])
    with pytest.raises(ValueError, match="draws"):
        example(snapshots=np.empty((0, 0, 2))).to_arviz()
    with pytest.raises(ValueError, match="draws"):
        example(final=np.full((5, 2), np.nan)).to_arviz("final")
    with pytest.raises(ValueError, match="did you mean"):
        result.to_arviz("snapshot")


def test_draws_without_arviz_or_on_either_side_of_its_version_1(monkeypatch):
    import sys
    from types import ModuleType

    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r"sgdsim\[diagnostics\]"):
        example().to_arviz()
    other = ModuleType("arviz")
    other.__version__ = "1.0"
    monkeypatch.setitem(sys.modules, "arviz", other)
    tree = example().to_arviz()
    assert isinstance(tree, xr.DataTree) and tree["posterior"]["w"].dims == ("chain", "draw", "parameter")
    other.__version__, other.InferenceData = "0.23.4", dict
    assert example().to_arviz()["posterior"]["w"].shape == (4, 3, 2)


def assert_plain_html(html):
    """Well-formed, nothing of the user's runs in it, and no colours that a dark theme would hide."""
    from xml.etree import ElementTree

    ElementTree.fromstring(html)
    assert "<script" not in html and "background" not in html
    assert "color:" not in html.replace("currentColor", "")


def test_html_of_results():
    html = example()._repr_html_()
    assert_plain_html(html)
    assert "&lt;script&gt;" in html and "0.25" in html and "1 of 5 chains" in html and "sharpness" in html
    points = [example(), example(quantities={"test_loss": None})]
    grid = ss.SweepResult({"batch_size": [1], "learning_rate": [0.1, 0.2]}, points)
    assert_plain_html(grid._repr_html_())
    assert len(repr(grid)) < 400 and "2 points, 0 not ok" in repr(grid)
    nothing = dict.fromkeys(("mean", "covariance", "test_loss", "sharpness"))
    empty = example(quantities=nothing, rhat=None, ess=None, tail=None, provenance={})
    assert_plain_html(empty._repr_html_())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.23456789, "1.2346"),
        (np.array([1.0, 2.0]), "1, 2"),
        (np.eye(2), "1, 0; 0, 1"),
        (np.arange(12.0).reshape(3, 4), "3 x 4, 0 to 11"),
        (np.full(9, np.nan), "9, none finite"),
        ([], "none"),
    ],
)
def test_brief(value, text):
    assert _labels.brief(value) == text
