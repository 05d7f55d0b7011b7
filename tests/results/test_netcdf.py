import dataclasses
import json
import os
import stat

import numpy as np
import pytest

import sgdsim as ss
from sgdsim._version import __version__
from sgdsim.results import LayerVariance, Quantity, netcdf

PROBLEM = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
RNG = np.random.default_rng(5)
SMALL = {"chains": 100, "steps": 60, "burn_in": 20}


def assert_equal(a, b):
    """Every field, type and bit; into tuples and dictionaries."""
    assert type(a) is type(b) or isinstance(a, float)  # a float may come back as a NumPy one
    if dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            assert_equal(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, np.ndarray | np.generic):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_equal(a[name], b[name])
    elif isinstance(a, tuple | list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    elif isinstance(a, float):
        np.testing.assert_equal(a, b)
    else:
        assert a == b


def example(**changes):
    """A result that no simulation was needed for, with something in every field."""
    rng = np.random.default_rng(3)
    quantities = {
        name: Quantity(*(rng.normal(size=shape) if shape else np.float64(rng.normal()) for _ in range(2)))
        for name, shape in {"mean": 3, "covariance": (3, 3), "noise_covariance": (3, 3), "train_loss": (),
                            "test_loss": (), "kurtosis": 3, "sharpness": (), "wide": (2, 2)}.items()
    }  # fmt: skip
    return ss.Result(**{
        "quantities": quantities, "tail": np.sort(rng.pareto(2.0, 50))[::-1].copy(),
        "tail_group": rng.integers(0, 8, 50), "tail_seen": 4e5, "ess": rng.normal(size=3),
        "rhat": np.array([1.0, np.nan, np.inf]), "chains": 7, "diverged": 1, "status": "diverged",
        "final": rng.normal(size=(7, 3)), "snapshots": rng.normal(size=(4, 6, 3)),
        "record": {"step": np.array([0, 5]), "mean": rng.normal(size=(2, 3)), "test_loss": np.array([np.nan, 1e-320])},
        "provenance": {"problem": "P(<b>)", "batch_size": 4, "versions": {"sgdsim": "0.1.0"}, "seed": None, "λ": [1.5]},
        **changes,
    })  # fmt: skip


def test_a_round_trip_is_exact(tmp_path):
    result = ss.simulate(PROBLEM, ss.SGD(0.3), batch_size=16, **SMALL, record=[0, 5, 30])
    assert result.tail is not None and result.tail_group is not None and result.record is not None
    path = result.save(tmp_path / "result.nc")
    assert_equal(result, ss.load(path))
    assert [p.name for p in tmp_path.iterdir()] == ["result.nc"]
    difference = result.to_xarray() - ss.predict(PROBLEM, ss.SGD(0.3), batch_size=16).to_xarray()
    assert difference["covariance"].dims == ("parameter", "parameter_") and abs(difference["test_loss"]) < 0.1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"record": None, "tail": None, "tail_group": None, "tail_seen": None, "quantities": {}},
        {"snapshots": np.empty((0, 0, 3)), "final": np.empty((0, 3)), "status": "interrupted"},
        {"quantities": {"variance": Quantity(np.arange(3.0), np.arange(3)), "x": Quantity(np.float64(-0.0), np.nan)}},
        {"provenance": {"problem": "x" * 200_000}},
        {"final": np.full((7, 3), np.inf, np.float32),
         "quantities": {"covariance": Quantity(np.full((3, 3), -0.0), np.full((3, 3), np.inf))}},
    ],
)  # fmt: skip
def test_every_field_survives(tmp_path, changes):
    result = example(**changes)
    assert_equal(result, ss.load(result.save(tmp_path / "r.nc")))


def test_a_sweep_too(tmp_path):
    grid = ss.SweepResult(
        {"batch_size": [1, 2], "learning_rate": [0.1]},
        [example(), example(snapshots=np.zeros((4, 2, 3)), record=None, status="ok")],
    )
    assert_equal(grid, ss.load(grid.save(tmp_path / "sweep.nc")))


def table(*shape):
    return RNG.normal(size=shape)


def variance(**changes):
    """Variances over runs with something in every field; as of a network with two layers."""
    tables = {name + end: table(3, 2) for name in ("gradient", "full_gradient", "loss") for end in ("", "_stderr")}
    one, two = ({name: table(3, 2) for name in tables if not name.startswith("loss")} for _ in range(2))
    carrying = ["gradient", "full_gradient", "loss"]
    carrying += [f"{name} {layer}" for name in carrying[:2] for layer in ("W1", "W2")]
    return ss.GradientVarianceResult(**{
        "step": np.array([0, 3, 10]), "batch_sizes": np.array([2, 8]), **tables,
        "by_layer": (LayerVariance("W1", **one), LayerVariance("W2", **two)),
        "gradient_covariance": None, "chains": 200, "runs_left": np.full((3, 2), 200),
        "effective_runs": {name: table(3, 2) for name in carrying}, "diverged": np.array([0, 0]),
        "status": "ok", "estimator": "plain", "typical_run": np.array([[False, False], [False, True], [True, True]]),
        "basis": "1/b", "n_examples": None, "non_negative": False, "no_polynomial": "",
        "provenance": {"problem": "P", "common_random_numbers": False, "versions": {"jax": "0"}}, **changes,
    })  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"by_layer": (), "gradient_covariance": table(3, 2, 2), "basis": "c_b", "n_examples": 442, "non_negative": True,
         "no_polynomial": "because", "typical_run": np.zeros((3, 2), bool),
         "effective_runs": {name: table(3, 2) for name in ("gradient", "full_gradient", "loss")}},
    ],
)  # fmt: skip
def test_variances_of_the_gradient_too(tmp_path, changes):
    result = variance(**changes)
    assert_equal(result, ss.load(result.save(str(tmp_path / "v.nc"))))


@pytest.mark.slow
def test_measured_variances_too(tmp_path):
    network = ss.TwoLayerLinear([[1.0, 0.5]], [[2.0]])
    start = np.array([0.3, -0.2, 0.5])
    result = ss.gradient_variance(network, ss.SGD(0.05), batch_size=[2, 8], steps=3, chains=200, initial=start, seed=0)
    assert len(result.by_layer) == 2 and result.warning
    assert_equal(result, ss.load(result.save(tmp_path / "v.nc")))


def test_what_is_no_result_is_refused(tmp_path):
    import xarray as xr

    with pytest.raises(ValueError, match="existing file"):
        ss.load(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.nc.* NetCDF"):
        ss.load(tmp_path / "text.nc")
    for i, attributes in enumerate([{}, {"format": "two"}]):
        xr.Dataset({"x": 1.0}, attrs=attributes).to_netcdf(tmp_path / f"other{i}.nc", engine="h5netcdf")
        with pytest.raises(ValueError, match=r"other.* sgdsim wrote"):
            ss.load(tmp_path / f"other{i}.nc")
    with pytest.raises(ValueError, match="existing folder"):
        example().save(tmp_path / "nowhere" / "result.nc")
    with pytest.raises(ValueError, match="is a folder"):
        example().save(tmp_path)


def test_a_newer_format_is_refused_with_both_versions(tmp_path, monkeypatch):
    monkeypatch.setattr(netcdf, "FORMAT", 99)
    monkeypatch.setattr(netcdf, "__version__", "7.5.0")
    one = example().save(tmp_path / "new.nc")
    grid = ss.SweepResult({"batch_size": [1]}, [example()]).save(tmp_path / "grid.nc")
    monkeypatch.undo()
    for path in (one, grid):
        with pytest.raises(ValueError, match=rf"sgdsim {__version__} reads .*format 99, by sgdsim 7\.5\.0.* upgrade"):
            ss.load(path)


def test_the_format_before_this_one_is_read(tmp_path):
    result = example()
    dataset = result.to_xarray().drop_vars(["parameter", "batch_size"])
    dataset["gain"] = 2.0  # a further quantity might have no standard error
    result.quantities["gain"] = Quantity(np.float64(2.0), np.nan)
    kept = {name: dataset.attrs[name] for name in ("chains", "diverged", "status", "provenance")}
    further = ["gain", "sharpness", "sharpness_stderr", "wide", "wide_stderr"]
    dataset.attrs = {**kept, "extra": json.dumps(further), "format": 1, "axes": "null"}
    dataset.to_netcdf(tmp_path / "one.nc", engine="h5netcdf")
    assert_equal(result, ss.load(tmp_path / "one.nc"))
    dataset.attrs["axes"] = '{"batch_size": [4]}'
    dataset.to_netcdf(tmp_path / "grid.nc", engine="h5netcdf", group="point_0")
    assert_equal(result, ss.load(tmp_path / "grid.nc").results[0])


def test_a_damaged_file_is_refused_by_name(tmp_path):
    marker = np.full(50, 1.2345678912345678)
    whole = example(tail=marker).save(tmp_path / "r.nc").read_bytes()
    damaged = tmp_path / "damaged.nc"
    at = whole.index(marker[:8].tobytes())
    damaged.write_bytes(whole[:at] + b"\x00" + whole[at + 1 :])  # one byte of one number
    with pytest.raises(ValueError, match=r"damaged\.nc.* undamaged .*digest"):
        ss.load(damaged)
    damaged.write_bytes(whole.replace(b"diverged", b"divorced"))
    with pytest.raises(ValueError, match=r"damaged\.nc.* undamaged"):
        ss.load(damaged)
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        damaged.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"damaged\.nc.* NetCDF file .* truncated"):
            ss.load(damaged)


def test_saving_is_all_or_nothing(tmp_path, monkeypatch):
    path = example().save(tmp_path / "r.nc")
    before = path.read_bytes()

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        example(chains=8).save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["r.nc"]
    example(chains=8).save(path)
    assert ss.load(path).chains == 8


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    old = os.umask(0o022)
    try:
        path = example().save(tmp_path / "r.nc")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
