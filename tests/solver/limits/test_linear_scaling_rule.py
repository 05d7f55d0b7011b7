import numpy as np
import pytest

import sgdsim as ss
from sgdsim.solver.limits import linear_scaling_rule

SCALAR = ss.LinearRegression(covariance=[2.0], label_noise=0.7)
PLANE = ss.LinearRegression([[1.0, 0.3], [0.3, 0.5]], [1.0, 2.0], label_noise=0.5)


@pytest.mark.parametrize("factor", [2, 5])
def test_the_map_in_one_dimension(factor):
    """Sigma = lambda s^2 / S / (2 - lambda a (1 + 2/S)), scaled and not."""
    rates, sizes = np.array([0.01, 0.1, 0.13]), np.array([1, 4, 64])
    chart = linear_scaling_rule(SCALAR, ss.SGD(0.1), batch_size=sizes.tolist(), learning_rate=rates.tolist(),
                           factor=factor)
    step, size = 2 * rates, sizes[:, None]
    np.testing.assert_allclose(chart.ratio, (2 - step * (1 + 2 / size)) / (2 - step * (factor + 2 / size)), rtol=1e-10)
    np.testing.assert_allclose(chart.rule, rates * 0.49 / (2 * size), rtol=1e-10)
    np.testing.assert_allclose(chart.rule_error, -step * (1 + 2 / size) / 2, rtol=1e-9)
    np.testing.assert_allclose(chart.max_learning_rate, 2 / (2 * (1 + 2 / sizes)), rtol=1e-10)
    np.testing.assert_allclose(chart.max_learning_rate_scaled, 2 / (2 * (factor + 2 / sizes)), rtol=1e-10)


def test_the_rule_is_right_to_first_order():
    chart = linear_scaling_rule(PLANE, ss.SGD(0.1), batch_size=[16], learning_rate=[1e-4, 1e-3])
    change, error = np.abs(chart.ratio[0] - 1), np.abs(chart.rule_error[0])
    assert change[0] < 1e-4 and change[1] / change[0] == pytest.approx(10, rel=0.01)
    assert error[1] / error[0] == pytest.approx(10, rel=0.01)


def test_unstable_points_are_empty_and_do_not_hold():
    chart = linear_scaling_rule(PLANE, ss.SGD(0.1), batch_size=[4], learning_rate=[0.05, 0.9, 1.5],
                                quantity="test_loss")
    assert np.isfinite(chart.ratio[0]).tolist() == [True, False, False]
    assert np.isfinite(chart.value[0]).tolist() == [True, True, False]
    assert chart.holds(0.1)[0].tolist() == [True, False, False]
    assert not chart.holds(1e-3).any()


def test_the_test_loss_counts_from_that_of_the_mean():
    """With weight decay the mean itself has a test loss, which no learning rate changes."""
    problem = ss.LinearRegression([1.0], [2.0], weight_decay=0.5, label_noise=0.3)
    chart = linear_scaling_rule(problem, ss.SGD(0.1), batch_size=[8], learning_rate=[0.01], quantity="test_loss")
    law = ss.predict(problem, ss.SGD(0.01), batch_size=8)
    assert chart.value[0, 0] == pytest.approx(law.covariance[0, 0] / 2, rel=1e-10)


def test_without_replacement_the_scaled_batch_is_thinned():
    """b = n leaves no noise: the rule, which knows 1/b alone, fails there completely."""
    rng = np.random.default_rng(1)
    problem = ss.DatasetRegression(rng.normal(size=(8, 2)), rng.normal(size=8))
    chart = linear_scaling_rule(problem, ss.SGD(0.1), batch_size=[1, 4], learning_rate=[0.01],
                           sampling="without_replacement")
    assert 0.8 < chart.ratio[0, 0] < 0.9 and abs(chart.ratio[1, 0]) < 1e-12


@pytest.mark.parametrize(("change", "says"), [
    ({"factor": 1}, "factor"),
    ({"factor": 1.5}, "factor"),
    ({"quantity": "variance"}, "quantity"),
    ({"batch_size": []}, "batch_size"),
    ({"batch_size": [4, 4]}, "batch_size"),
    ({"batch_size": [0]}, "batch_size"),
    ({"learning_rate": [-0.1]}, "learning_rate"),
    ({"learning_rate": [[0.1]]}, "learning_rate"),
    ({"optimizer": 0.1}, "optimizer"),
])  # fmt: skip
def test_bad_input(change, says):
    with pytest.raises(ValueError, match=says):
        linear_scaling_rule(**{"problem": SCALAR, "optimizer": ss.SGD(0.1), "batch_size": [4], "learning_rate": [0.1],
                          **change})
