"""The experiments about the whole run: their own formulas, and that they find what they say."""

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.experiments import run
from sgdsim.experiments.whole_run.epochs import BATCH, EXAMPLES, MOMENTUM, closed_form, data_set
from sgdsim.experiments.whole_run.epochs import RATE as EPOCH_RATE
from sgdsim.experiments.whole_run.power_law import CAPACITY, MODELS, RATE, SOURCE, frontier, models


def test_the_frontier_of_a_sum_of_powers():
    """d^-p + t^-q has the slope p q / (p + q) in d t."""
    d, t = np.geomspace(4, 4e5, 60)[:, None], np.geomspace(1, 1e8, 400)
    budget, best, slope = frontier(d * t, d**-0.8 + t**-0.5)
    assert slope == pytest.approx(0.8 * 0.5 / 1.3, rel=0.02)
    assert (np.diff(best) < 0).all() and len(budget) > 60


def test_a_model_of_some_features_is_a_run_of_that_dimension():
    compute, losses = models(300)
    d = MODELS[0]
    hidden = np.sum(np.arange(d + 1.0, 3e6) ** -SOURCE) + 3e6 ** (1 - SOURCE) / (SOURCE - 1)
    problem = ss.LinearRegression.power_law(d, CAPACITY, SOURCE, np.sqrt(hidden))
    step = (compute[0] / d).astype(int)
    theory = ss.predict_run(problem, ss.SGD(RATE), batch_size=1, steps=300, record=step.tolist())
    np.testing.assert_allclose(losses[0], theory.test_loss + hidden / 2, rtol=1e-6)


@pytest.mark.slow
def test_power_law_agrees():
    found = run("power_law", "smoke")
    assert not found.disagrees and len(found.verdicts) == 6
    assert sum(v.row.verdict == "agree" for v in found.verdicts) == 6


def test_the_closed_form_along_eigenvectors_is_that_of_predict():
    """Direction by direction with matrix powers, against the recursion over positions for all directions."""
    problem = data_set()
    noise = np.diag(ss.solver.gradient_covariance(problem, problem.minimum, batch_size=1))
    setting = (EXAMPLES, BATCH, EPOCH_RATE, MOMENTUM)
    shuffled, _ = closed_form(np.diag(problem.hessian()), noise, *setting)
    theory = ss.predict(problem, ss.SGD(EPOCH_RATE, MOMENTUM), batch_size=BATCH, sampling="epochs",
                        approximation="additive")  # fmt: skip
    np.testing.assert_allclose(shuffled, np.diag(theory.at_position(0)[1]), rtol=1e-9)


def test_with_replacement_at_small_noise_is_the_published_variance():
    """Heavy ball along one direction: its scalar closed form."""
    h, c, rate, mu = 0.3, 2.0, 0.05, 0.9
    _, drawn = closed_form(np.array([h]), np.array([c]), 60, 6, rate, mu)
    expected = rate * c / 6 * (1 + mu) / (h * (1 - mu) * (2 * (1 + mu) - rate * h))
    assert drawn[0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.slow
def test_epochs_agree():
    found = run("epochs", "smoke")
    assert not found.disagrees and len(found.verdicts) == 16
