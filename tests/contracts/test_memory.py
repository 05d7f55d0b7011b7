"""What theory of a data set asks for: within four times its numbers, and what does not grow with the examples."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import sgdsim as ss

D, FEW, MANY = 20, 20_000, 80_000
SLACK = 2**23  # bytes, that a process's allocator keeps or returns by its own lights
NUMBERS = 8 * (MANY - FEW) * (D + 1)  # bytes of features and targets

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux knows what a process had")


def problem(n):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, D))
    return ss.DatasetRegression(x, x.sum(axis=1) + rng.normal(size=n))


def most(ask, given):
    """Bytes beyond those held before."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest mark
    before = int(re.search(r"VmRSS:\s*(\d+)", Path("/proc/self/status").read_text())[1])
    ask(given)
    return 1024 * (int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) - before)


def growth(ask):
    few, many = problem(FEW), problem(MANY)
    ask(few)  # programs that serve any number of examples are compiled
    return most(ask, many) - most(ask, few)


def pairs_of_features(p):
    return np.einsum("ni,nj->nij", p.features, p.features).sum()


SOLVER = ss.solver
ASKED = {
    "predict": lambda p: ss.predict(p, ss.SGD(0.01, 0.9), batch_size=8),
    "variance": lambda p: SOLVER.gradient_variance(p, ss.SGD(0.01), batch_size=[8, 16], steps=1),
    "predict-subsets": lambda p: ss.predict(p, ss.SGD(0.01), batch_size=8, sampling="without_replacement"),
    "adam": lambda p: ss.predict(p, ss.Adam(0.001), batch_size=8),
    "run": lambda p: ss.predict_run(p, ss.SGD(0.01), batch_size=8, steps=5),
    "stability": lambda p: SOLVER.stability(p, ss.SGD(0.01), batch_size=8).max_learning_rate,
    "noise": lambda p: SOLVER.gradient_covariance(p, np.zeros(D), batch_size=8),
    "noise scale": lambda p: ss.estimators.simple_noise_scale(p, np.zeros(D)),
    "bias of Adam": lambda p: SOLVER.adam_bias.adam_bias_terms(p, np.zeros(D), ss.Adam(0.001, eps=0, eps_root=1e-8),
                                                                 batch_size=8),
    "hessian": lambda p: p.hessian(),
}
QUICK = {"predict", "variance", "hessian"}


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
                                  for name in ASKED])  # fmt: skip
def test_memory_is_that_of_the_data(name):
    assert growth(ASKED[name]) < 4 * NUMBERS + SLACK


def test_the_measure_sees_an_array_of_pairs():
    assert growth(pairs_of_features) > 4 * NUMBERS + SLACK
