"""The whole run as simulated against the theory of it; nothing but the description of the problem is shared."""

import numpy as np
import optax
import pytest

import sgdsim as ss

A = [[1.0, 0.3], [0.3, 0.5]]
GAUSSIAN = ss.LinearRegression(A, [1.0, -0.5], label_noise=0.5)
RNG = np.random.default_rng(4)
FEATURES = np.minimum(RNG.exponential(size=(24, 2)), 3.0) - [0.3, 0.8]
SKEWED = ss.DatasetRegression(FEATURES, FEATURES @ [1.0, -0.5] + 0.4 * FEATURES[:, 0] ** 2, label_noise=0.2)
UPPER = np.triu_indices(2)

OPTIMIZERS = {
    "nesterov": (GAUSSIAN, ss.SGD(0.1, 0.8, nesterov=True), None),
    "average": (GAUSSIAN, optax.chain(optax.ema(0.8, debias=False), optax.scale(-0.3)), None),
    "decoupled decay": (SKEWED, optax.chain(optax.trace(0.5), optax.add_decayed_weights(0.2), optax.scale(-0.04)),
                        "without_replacement"),
    "accumulated": (GAUSSIAN, optax.MultiSteps(optax.sgd(0.3), 2).gradient_transformation(), None),
}


SLOW = {"average", "accumulated"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in OPTIMIZERS])
def test_linear_optimizers_settle_as_predicted(name, assert_within_sigma):
    problem, optimizer, sampling = OPTIMIZERS[name]
    theory = ss.predict(problem, optimizer, batch_size=3, sampling=sampling)
    result = ss.simulate(problem, optimizer, batch_size=3, sampling=sampling, chains=8000, steps=500, burn_in=150,
                         initial=theory.mean, seed=3)
    comparisons = 8 * len(OPTIMIZERS)
    for quantity in ("mean", "train_loss", "test_loss"):
        assert_within_sigma(getattr(result, quantity), getattr(theory, quantity), getattr(result, f"{quantity}_stderr"),
                            comparisons)
    measured, stderr = result.covariance, result.covariance_stderr
    assert_within_sigma(measured[UPPER], theory.covariance[UPPER], stderr[UPPER], comparisons)
    with pytest.raises(AssertionError):
        assert_within_sigma(np.diag(measured), 1.03 * np.diag(theory.covariance), np.diag(stderr), comparisons)


def lookahead(rate):
    return ss.lookahead(optax.sgd(rate, momentum=0.5), 5, 0.5)


@pytest.mark.slow
def test_lookahead_settles_as_predicted(assert_within_sigma):
    theory = ss.predict(GAUSSIAN, lookahead(0.3), batch_size=3)
    result = ss.simulate(GAUSSIAN, lookahead(0.3), batch_size=3, chains=8000, steps=600, burn_in=120,
                         initial=theory.mean, seed=3)
    assert result.provenance["thin"] == 7, "4 in an eighth of 60 steps met places unequally, 5 one alone"
    assert_within_sigma(result.test_loss, theory.test_loss, result.test_loss_stderr, 8)
    measured, stderr = result.covariance, result.covariance_stderr
    assert_within_sigma(measured[UPPER], theory.covariance[UPPER], stderr[UPPER], 8)
    with pytest.raises(AssertionError):
        assert_within_sigma(np.diag(measured), 1.03 * np.diag(theory.covariance), np.diag(stderr), 8)
    alone = ss.predict(GAUSSIAN, ss.SGD(0.3, 0.5), batch_size=3)
    assert theory.test_loss < 0.8 * alone.test_loss


def test_lookahead_runs_as_predicted_from_many_points(assert_within_sigma):
    """The slow weights of each chain begin where the chain does."""
    cloud = np.random.default_rng(0).normal(size=(8000, 2))
    setting = {"batch_size": 3, "steps": 12, "initial": cloud, "record": [4, 5, 6, 10, 11]}
    result = ss.simulate(GAUSSIAN, lookahead(0.3), chains=8000, seed=4, **setting)
    report = ss.compare(result, ss.predict_run(GAUSSIAN, lookahead(0.3), **setting))
    assert report.agrees, report.table()
    assert not ss.compare(result, ss.predict_run(GAUSSIAN, lookahead(0.32), **setting)).agrees


RECORD = [0, 1, 3, 8, 20, 40, 60]
WARM = optax.warmup_cosine_decay_schedule(0.02, 0.3, 15, 60, 0.01)
RUNS = {
    "schedules": (GAUSSIAN, ss.SGD(WARM, lambda t: 0.5 + t / 150), lambda t: 2 + t // 31, None),
    "skewed data": (SKEWED, ss.SGD(0.04), 2, "with_replacement"),
}


@pytest.mark.parametrize("name", RUNS)
def test_runs_go_as_predicted(name, assert_within_sigma):
    problem, optimizer, b, sampling = RUNS[name]
    setting = {"batch_size": b, "steps": 61, "sampling": sampling, "initial": [2.0, 1.0], "record": RECORD}
    result = ss.simulate(problem, optimizer, chains=20_000, seed=5, **setting)
    theory = ss.predict_run(problem, optimizer, **setting)
    report = ss.compare(result, theory)
    assert report.agrees, report.table()
    for t in range(1, len(RECORD)):
        assert_within_sigma(result.record["covariance"][t][UPPER], theory.covariance[t][UPPER],
                            result.record["covariance_stderr"][t][UPPER], 200)
        assert_within_sigma(result.record["train_loss"][t], theory.train_loss[t],
                            result.record["train_loss_stderr"][t], 200)
    # the same comparison sees a rate that is 3% off
    rate = optimizer.learning_rate
    off = ss.SGD((lambda t: 1.03 * rate(t)) if callable(rate) else 1.03 * float(rate), optimizer.momentum)
    other = ss.predict_run(problem, off, **setting)
    with pytest.raises(AssertionError):
        assert_within_sigma(result.record["mean"][3], other.mean[3], result.record["mean_stderr"][3], 200)


def test_shuffled_epochs_settle_as_predicted(assert_within_sigma):
    data = ss.DatasetRegression(FEATURES[:12], SKEWED.targets[:12], weight_decay=0.1)
    optimizer = ss.SGD(0.05, 0.5)
    theory = ss.predict(data, optimizer, batch_size=5, sampling="epochs")  # 5, 5 and 2 rows
    result = ss.simulate(data, optimizer, batch_size=5, sampling="epochs", chains=8000, steps=1020, burn_in=120,
                         initial=theory.mean, seed=6)
    assert result.provenance["thin"] == 10, "with 9, as usual for 900 steps, one position would be measured alone"
    assert_within_sigma(result.mean, theory.mean, result.mean_stderr, 10)
    assert_within_sigma(result.covariance[UPPER], theory.covariance[UPPER], result.covariance_stderr[UPPER], 10)
    assert_within_sigma(result.train_loss, theory.train_loss, result.train_loss_stderr, 10)
    with pytest.raises(AssertionError):
        assert_within_sigma(np.diag(result.covariance), 1.03 * np.diag(theory.covariance),
                            np.diag(result.covariance_stderr), 10)
    independent = ss.predict(data, optimizer, batch_size=5, sampling="without_replacement")
    assert (np.diag(independent.covariance) > 1.5 * np.diag(theory.at_position(0)[1])).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["diabetes", "digits"])
def test_shuffled_epochs_of_real_data(name):
    load = pytest.importorskip("sklearn.datasets")
    x, y = getattr(load, f"load_{name}")(return_X_y=True)
    x = x[:, x.std(axis=0) > 0]
    x, y = (x - x.mean(axis=0)) / x.std(axis=0), (y - y.mean()) / y.std()
    data, optimizer = ss.DatasetRegression(x, y, weight_decay=0.05), ss.SGD(0.005, 0.9)
    theory = ss.predict(data, optimizer, batch_size=32, sampling="epochs")
    passes = -(-len(x) // 32)
    result = ss.simulate(data, optimizer, batch_size=32, sampling="epochs", chains=2000, steps=160 * passes,
                         burn_in=80 * passes, initial=data.minimum, seed=1)
    assert theory.theory_error < 0.05
    # over all parameters: the sampled theory is itself an estimate
    ratio = np.trace(result.covariance) / np.trace(theory.covariance)
    assert ratio == pytest.approx(1, abs=max(0.01, 3 * theory.theory_error / np.sqrt(len(data.minimum))))
