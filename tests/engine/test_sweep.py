import numpy as np
import pytest

import sgdsim as ss

PROBLEM = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
SMALL = {"chains": 200, "steps": 300, "burn_in": 100}


@pytest.mark.parametrize("sizes", [[3, 64], pytest.param([1, 3, 64], marks=pytest.mark.slow)])
def test_every_point_is_the_simulation_it_names(sizes):
    """Exact, polynomial and direct kernels in one program, each at its own place."""
    grid = ss.sweep(PROBLEM, ss.SGD(0.1, momentum=0.3), batch_size=sizes, learning_rate=[0.1, 0.3], **SMALL)
    assert grid.covariance.shape == (len(sizes), 2, 2, 2) and grid.train_loss.shape == (len(sizes), 2)
    for b in sizes:
        for rate in (0.1, 0.3):
            alone = ss.simulate(PROBLEM, ss.SGD(rate, momentum=0.3), batch_size=b, **SMALL)
            point = grid.sel(batch_size=b, learning_rate=rate)
            np.testing.assert_allclose(point.final, alone.final, rtol=2e-4, atol=2e-5)
            assert point.provenance["batch_size"] == b
            assert point.provenance["optimizer"] == alone.provenance["optimizer"]


def test_a_grid_is_one_compilation(compilations):
    ss.sweep(PROBLEM, ss.SGD(0.1), batch_size=[16, 32], learning_rate=[0.1, 0.2, 0.3], **SMALL)
    before = compilations()
    ss.sweep(PROBLEM, ss.SGD(0.1), batch_size=[20, 99], learning_rate=[0.15, 0.25, 0.31], **SMALL)
    assert compilations() == before


@pytest.mark.slow
def test_data_sets_too(rng):
    x = rng.normal(size=(20, 2))
    problem = ss.DatasetRegression(x, x @ [1.0, -1.0] + rng.normal(size=20))
    for sampling in ("with_replacement", "without_replacement", "epochs"):
        grid = ss.sweep(problem, ss.SGD(0.1), batch_size=[3, 20], learning_rate=[0.05, 0.1], sampling=sampling, **SMALL)
        assert (grid.test_loss[0] > grid.test_loss[1]).all()


def test_axes_are_named_and_complaints_too():
    grid = ss.sweep(PROBLEM, ss.SGD(0.1), batch_size=[16], **SMALL)
    assert grid.axes == {"batch_size": [16], "learning_rate": [0.1]}
    assert grid.sel().provenance["batch_size"] == 16
    assert [point for point, _ in grid.points()] == [{"batch_size": 16, "learning_rate": 0.1}]
    with pytest.raises(ValueError, match="batch_size is 8"):
        grid.sel(batch_size=8)
    with pytest.raises(ValueError, match="axis is 'momentum'"):
        grid.sel(momentum=0.1)
    with pytest.raises(AttributeError, match="nothing"):
        _ = grid.nothing


@pytest.mark.slow
def test_any_hyperparameter_is_an_axis():
    setting = {"chains": 64, "steps": 60, "burn_in": 20, "seed": 3}
    problem = ss.LinearRegression([1.0, 0.5], label_noise=0.5)
    grid = ss.sweep(problem, ss.SGD(0.1, 0.5), batch_size=4, momentum=[0.0, 0.5], **setting)
    assert grid.axes == {"batch_size": [4], "learning_rate": [0.1], "momentum": [0.0, 0.5]}
    for mu in (0.0, 0.5):
        alone = ss.simulate(problem, ss.SGD(0.1, mu), batch_size=4, **setting)
        np.testing.assert_allclose(grid.sel(momentum=mu).final, alone.final, rtol=2e-4, atol=2e-5)
    decays = ss.sweep(problem, ss.AdamW(0.01), batch_size=4, weight_decay=[0.0, 0.1], b1=[0.5, 0.9], **setting)
    assert decays.shape == (1, 1, 2, 2)
    alone = ss.simulate(problem, ss.AdamW(0.01, b1=0.9, weight_decay=0.1), batch_size=4, **setting)
    np.testing.assert_allclose(decays.sel(weight_decay=0.1, b1=0.9).final, alone.final, rtol=2e-4, atol=2e-5)


def test_settings_side_by_side():
    setting = {"chains": 64, "steps": 60, "burn_in": 20, "seed": 3}
    problem = ss.LinearRegression([1.0, 0.5], label_noise=0.5)
    pairs = ss.sweep(problem, ss.SGD(0.1), batch_size=[2, 4, 2], learning_rate=[0.1, 0.2, 0.3], zip=True, **setting)
    assert pairs.axes == {"point": [0, 1, 2]}
    alone = ss.simulate(problem, ss.SGD(0.3), batch_size=2, **setting)
    np.testing.assert_allclose(pairs.results[2].final, alone.final, rtol=2e-4, atol=2e-5)
    assert [result.provenance["batch_size"] for result in pairs.results] == [2, 4, 2]


def test_settings_side_by_side_are_one_compilation(compilations):
    """Every number of every point may change, and no two of them form a grid."""
    def pairs(sizes, rates, momenta):
        return ss.sweep(PROBLEM, ss.SGD(0.1, 0.5), batch_size=sizes, learning_rate=rates, momentum=momenta, zip=True,
                        **SMALL)

    pairs([16, 32, 24], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    before = compilations()
    found = pairs([20, 99, 50], [0.15, 0.25, 0.31], [0.5, 0.1, 0.4])
    assert compilations() == before and found.shape == (3,)
    pairs([20, 99], [0.15, 0.25], [0.5, 0.1])
    assert compilations() > before, "the count sees a program for another number of points"


@pytest.mark.parametrize(("options", "match"), [
    ({"momentun": [0.1]}, "did you mean 'momentum'"),
    ({"momentum": [0.1, 1.0]}, "momentum is 1.0"),
    ({"momentum": [0.1, 0.2], "learning_rate": [0.1, 0.2, 0.3], "zip": True}, "momentum is"),
])
def test_complaints_about_hyperparameters(options, match):
    with pytest.raises(ValueError, match=match):
        ss.sweep(ss.LinearRegression([1.0]), ss.SGD(0.1), batch_size=4, chains=8, steps=5, **options)


def test_batch_sizes_may_be_a_schedule():
    problem = ss.LinearRegression([1.0], label_noise=1.0)
    setting = {"chains": 200, "steps": 40, "seed": 1}
    constant = ss.simulate(problem, ss.SGD(0.1), batch_size=[4] * 40, **setting)
    np.testing.assert_array_equal(constant.final, ss.simulate(problem, ss.SGD(0.1), batch_size=4, **setting).final)
    growing = ss.simulate(problem, ss.SGD(0.1), batch_size=lambda t: 1 if t < 20 else 64, **setting)
    assert growing.provenance["batch_size"] == [1] * 20 + [64] * 20
    assert growing.final.var() < 0.5 * constant.final.var()


def test_batch_sizes_may_be_schedules():
    """Beside a number, each at its own place, and the same run as alone."""
    sizes = [1] * 100 + [8] * 200
    grid = ss.sweep(PROBLEM, ss.SGD(0.1), batch_size=[4, lambda t: sizes[t]], learning_rate=[0.1, 0.2], **SMALL)
    assert grid.axes == {"schedule": [0, 1], "learning_rate": [0.1, 0.2]}
    alone = ss.simulate(PROBLEM, ss.SGD(0.2), batch_size=sizes, **SMALL)
    point = grid.sel(schedule=1, learning_rate=0.2)
    np.testing.assert_allclose(point.final, alone.final, rtol=2e-4, atol=2e-5)
    assert point.provenance["batch_size"] == sizes
    assert grid.sel(schedule=0, learning_rate=0.1).provenance["batch_size"] == 4
    with pytest.raises(ValueError, match="as many as steps"):
        ss.sweep(PROBLEM, ss.SGD(0.1), batch_size=[4, [1, 2]], **SMALL)
