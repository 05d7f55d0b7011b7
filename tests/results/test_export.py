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
    none = {field.name: None for field in dataclasses.fields(ss.Result) if field.default is dataclasses.MISSING}
    known = {
        "mean": rng.normal(size=dimension), "mean_stderr": np.full(dimension, 0.1),
        "covariance": np.eye(dimension), "covariance_stderr": np.full((dimension, dimension), 0.01),
        "test_loss": np.float64(0.25), "test_loss_stderr": np.float64(0.001), "rhat": np.ones(dimension),
        "ess": np.full(dimension, 100.0), "tail": np.array([3.0, 2.0]), "tail_group": np.array([0, 1]),
        "final": rng.normal(size=(chains, dimension)), "snapshots": rng.normal(size=(3, alive, dimension)),
        "record": {"step": np.array([0, 4]), "test_loss": np.array([1.0, 0.5]), "mean": np.zeros((2, dimension))},
        "extra": {"sharpness": np.float64(2.0)}, "chains": chains, "diverged": chains - alive, "status": "ok",
        "provenance": dict(ORIGIN),
    }  # fmt: skip
    return ss.Result(**{**none, "extra": {}, **known, **changes})


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
    arrays = {field.name.removesuffix("_stderr") for field in dataclasses.fields(ss.Result) if field.type == "Any"}
    assert arrays - set(_labels.LABELS) == set()


def test_a_sweep_has_its_axes_in_front_and_is_filled_up():
    points = [example(alive=4), example(alive=2, test_loss=np.float64(0.75)), example(), example(tail=np.array([9.0]),
              tail_group=np.array([5]), extra={})]  # fmt: skip
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


def test_inferencedata():
    arviz = pytest.importorskip("arviz")
    result = example()
    data = result.to_inferencedata()
    assert data.posterior["w"].dims == ("chain", "draw", "parameter")
    np.testing.assert_array_equal(data.posterior["w"].values, result.snapshots.swapaxes(0, 1))
    means = arviz.summary(data, kind="stats", round_to="none")["mean"].to_numpy()
    np.testing.assert_allclose(means, result.snapshots.mean(axis=(0, 1)))
    result.final[0] = np.nan
    last = result.to_inferencedata(source="final").posterior["w"].values
    np.testing.assert_array_equal(last[:, 0], result.final[1:])
    for empty in (np.empty((0, 0, 2)), None):
        with pytest.raises(ValueError, match="draws"):
            example(snapshots=empty).to_inferencedata()
    with pytest.raises(ValueError, match="did you mean"):
        result.to_inferencedata("snapshot")


def test_inferencedata_without_or_with_another_arviz(monkeypatch):
    import sys
    from types import ModuleType

    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r"sgdsim\[diagnostics\]"):
        example().to_inferencedata()
    monkeypatch.setitem(sys.modules, "arviz", ModuleType("arviz"))
    with pytest.raises(ImportError, match=r"below 1\.0"):
        example().to_inferencedata()


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
    grid = ss.SweepResult({"batch_size": [1], "learning_rate": [0.1, 0.2]}, [example(), example(test_loss=None)])
    assert_plain_html(grid._repr_html_())
    assert len(repr(grid)) < 400 and "2 points, 0 not ok" in repr(grid)
    empty = example(mean=None, covariance=None, test_loss=None, rhat=None, ess=None, tail=None, extra={}, provenance={})
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
