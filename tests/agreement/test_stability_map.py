"""The fates of simulated chains against both limits: theory and simulation share the description alone."""

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.experiments.minibatch_noise.phases import classify
from sgdsim.experiments.minibatch_noise.stability_map import problems
from sgdsim.plots import phase_diagram
from sgdsim.solver import stability


@pytest.mark.parametrize("label", list(problems()))
@pytest.mark.parametrize("b", [1, 4])
def test_chains_change_their_fate_at_the_limits(label, b):
    problem = problems()[label]
    limits = stability(problem, ss.SGD(0.1), batch_size=b)
    low, high = limits.max_learning_rate, limits.almost_sure
    middle = float(np.sqrt(low * high))
    assert limits.almost_sure_stderr < 0.03 * high
    for rate, fate in ((0.75 * low, "finite variance"), (middle, "infinite variance"), (1.25 * high, "diverges")):
        assert classify(problem, rate, b, chains=2000, seed=1) == fate
    # on a line itself nothing is claimed
    assert classify(problem, low, b, chains=500, seed=2) != "diverges"


def test_the_engine_agrees_past_the_mean_square_limit():
    """Between the limits simulated chains stay finite and of heavy tail; past the second they leave."""
    problem = ss.LinearRegression([1.0], label_noise=1.0)
    limits = stability(problem, ss.SGD(0.1), batch_size=4)
    run = {"batch_size": 4, "chains": 2048, "steps": 400, "seed": 3}
    between = ss.simulate(problem, ss.SGD(0.5 * (limits.max_learning_rate + limits.almost_sure)), **run)
    beyond = ss.simulate(problem, ss.SGD(1.3 * limits.almost_sure), **run)
    assert between.diverged == 0
    assert beyond.diverged > 0.9 * 2048


def test_the_diagram_draws():
    dots = {"diverges": ([1], [3.0]), "undecided": ([4], [1.3])}
    ax = phase_diagram([1, 4, 16], [0.6, 1.3, 1.7], [2.4, 2.6, 2.3], dots)
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert len(ax.get_legend().get_texts()) == 7
