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
