"""Recorded runs against the theory of the whole run: what the comparison itself costs."""

import tracemalloc

import sgdsim as ss
from sgdsim.statistics import Losses


def test_many_parameters_are_compared_in_the_memory_of_their_variances():
    """D^2 numbers a step would be 500 MB here."""
    problem, optimizer = ss.LinearRegression.power_law(2_000, 1.5, 1.8, 0.1), ss.SGD(0.2)
    record = list(range(1, 17))
    result = ss.simulate(problem, optimizer, batch_size=1, chains=64, steps=17, record=record, statistics=[Losses()])
    theory = ss.predict_run(problem, optimizer, batch_size=1, steps=17, record=record)
    tracemalloc.start()
    report = ss.compare(result, theory)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row.quantity.split("[")[0] for row in report.rows] == ["train_loss", "test_loss"]
    assert peak < 30e6
