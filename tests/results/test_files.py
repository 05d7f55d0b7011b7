import dataclasses

import numpy as np
import pytest

import sgdsim as ss

PROBLEM = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
SMALL = {"chains": 100, "steps": 60, "burn_in": 20}


def assert_equal(a, b):
    for field in dataclasses.fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray | np.generic):
            np.testing.assert_array_equal(x, y, err_msg=field.name)
            assert np.asarray(x).dtype == np.asarray(y).dtype, field.name
        elif isinstance(x, dict) and x and isinstance(next(iter(x.values())), np.ndarray | np.generic):
            assert x.keys() == y.keys()
            for name in x:
                np.testing.assert_array_equal(x[name], y[name], err_msg=name)
        else:
            assert x == y, field.name


@pytest.mark.parametrize("record", [None, [0, 5, 30]])
def test_a_round_trip_is_exact(tmp_path, record):
    result = ss.simulate(PROBLEM, ss.SGD(0.3), batch_size=16, **SMALL, record=record)
    path = result.save(tmp_path / "result.nc")
    assert_equal(result, ss.load(path))
    assert [p.name for p in tmp_path.iterdir()] == ["result.nc"]


def test_a_sweep_too(tmp_path):
    grid = ss.sweep(PROBLEM, ss.SGD(0.3), batch_size=[16, 32], learning_rate=[0.1, 0.2], **SMALL)
    back = ss.load(grid.save(tmp_path / "sweep.nc"))
    assert back.axes == grid.axes
    for a, b in zip(grid.results, back.results, strict=True):
        assert_equal(a, b)


def test_extra_statistics_survive(tmp_path):
    wide = ss.Quadratic(np.ones(300), np.ones(300))
    result = ss.simulate(wide, ss.SGD(0.5), batch_size=1, chains=8, steps=12)
    assert_equal(result, ss.load(result.save(tmp_path / "wide.nc")))


def test_what_is_no_result_is_refused(tmp_path):
    import xarray as xr

    with pytest.raises(ValueError, match="existing file"):
        ss.load(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("hello")
    with pytest.raises(ValueError, match="NetCDF"):
        ss.load(tmp_path / "text.nc")
    xr.Dataset({"x": 1.0}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="sgdsim wrote"):
        ss.load(tmp_path / "other.nc")
    xr.Dataset({"x": 1.0}, attrs={"format": 99}).to_netcdf(tmp_path / "new.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="upgrade"):
        ss.load(tmp_path / "new.nc")
    result = ss.simulate(PROBLEM, ss.SGD(0.3), batch_size=16, **SMALL)
    with pytest.raises(ValueError, match="existing folder"):
        result.save(tmp_path / "nowhere" / "result.nc")


def test_dimensions_have_names():
    dataset = ss.simulate(PROBLEM, ss.SGD(0.3), batch_size=16, **SMALL, record=20).to_xarray()
    assert dataset["mean"].dims == ("parameter",)
    assert dataset["covariance"].dims == ("parameter", "parameter_")
    assert dataset["final"].dims == ("chain", "parameter")
    assert dataset["record_train_loss"].dims == ("step",)
    assert dataset["record_mean"].dims == ("step", "parameter")
