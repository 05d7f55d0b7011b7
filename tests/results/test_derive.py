# ruff: noqa: PLW0108  (the names of parameters say what a function gets)
"""Numbers derived from measured ones: errors that hold, files, refusals."""

import pickle

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.estimators.jackknife import jackknife

PROBLEM = ss.LinearRegression([1.0, 1.0, 0.3], label_noise=0.5)
RUN = {"batch_size": 8, "chains": 640, "steps": 150, "burn_in": 100}
FUNCTIONS = {
    "trace": lambda covariance: np.trace(covariance),
    "condition number": lambda covariance: np.linalg.cond(covariance),
    "log-determinant": lambda covariance: np.linalg.slogdet(covariance)[1],
    "ratio": lambda covariance, train_loss: np.trace(covariance) / train_loss,
    "largest eigenvalue": lambda covariance: np.linalg.eigvalsh(covariance)[-1],  # of a degenerate pair
}


@pytest.fixture(scope="module")
def result():
    return ss.simulate(PROBLEM, ss.SGD(0.5), **RUN)


def test_what_is_measured_has_its_own_error(result):
    """Of a quantity itself the jackknife is the standard error over groups."""
    for name in ("mean", "covariance", "train_loss", "kurtosis", "noise_covariance"):
        found = result.derive(eval(f"lambda {name}: {name}"))
        np.testing.assert_allclose(found.stderr, getattr(result, f"{name}_stderr"), rtol=0.05)
        np.testing.assert_allclose(found.value, getattr(result, name), rtol=0.01, atol=1e-3)


def test_any_shape_and_several_quantities(result):
    found = result.derive(lambda variance, covariance, scale=2.0: scale * np.outer(variance, covariance[0]))
    assert found.value.shape == found.stderr.shape == found.interval[0].shape == (3, 3)
    value, stderr, (low, high) = result.derive(lambda test_loss, train_loss: test_loss / train_loss, confidence=0.9)
    assert low < value < high and value - low == pytest.approx(1.669 * stderr, rel=1e-3)


def test_of_a_linear_function_nothing_is_corrected(result):
    assert result.derive(FUNCTIONS["trace"]).value == pytest.approx(np.trace(result.covariance), rel=1e-6)


def test_bias_is_corrected():
    """The square of a mean of n is too large by its variance; groups of different sizes."""
    rng = np.random.default_rng(0)
    sizes = np.array([5, 10, 15, 20] * 5)
    found, plain = [], []
    for _ in range(20_000):
        sums = rng.normal(0.1 * sizes, np.sqrt(sizes))
        plain.append((sums.sum() / sizes.sum()) ** 2)
        without = ((sums.sum() - sums) / (sizes.sum() - sizes)) ** 2
        found.append(jackknife(plain[-1], without, sizes).value)
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - 0.01) < 4 * error < (np.mean(plain) - 0.01) / 4


def test_groups_travel_in_files_and_pickles(result, tmp_path):
    again = ss.load(result.save(tmp_path / "run.nc"))
    other = pickle.loads(pickle.dumps(result))
    for name in ("trace", "ratio"):
        first = result.derive(FUNCTIONS[name])
        assert first == again.derive(FUNCTIONS[name]) == other.derive(FUNCTIONS[name])
    assert "without_covariance" not in result.to_xarray() and len(result.groups.sizes) == 64


def test_many_groups_are_joined_to_64():
    run = ss.simulate(PROBLEM, ss.SGD(0.5), batch_size=8, chains=300_000, steps=3, burn_in=1)
    assert run.provenance["groups"] > 64 and run.groups.sizes.sum() == 300_000 and len(run.groups.sizes) == 64
    found = run.derive(lambda covariance: covariance)
    np.testing.assert_allclose(found.value, run.covariance, rtol=1e-3, atol=1e-6)
    ratio = found.stderr / run.covariance_stderr
    assert np.abs(np.log(ratio)).max() < 4 / np.sqrt(2 * 63)


def test_with_a_control_variate_the_error_is_the_smaller_one():
    run = ss.simulate(PROBLEM, ss.SGD(0.05), **RUN, control_variate=True)
    found = run.derive(lambda covariance: covariance)
    np.testing.assert_allclose(found.stderr, run.covariance_stderr, rtol=0.2)


def test_groups_are_kept_where_they_fit(monkeypatch):
    few = {"batch_size": 8, "chains": 100, "steps": 4, "burn_in": 2}
    monkeypatch.setattr("sgdsim.engine.run.kept_groups.MOST_BYTES", 100)
    large = ss.simulate(PROBLEM, ss.SGD(0.5), **few)
    assert large.groups is None
    with pytest.raises(ValueError, match="keep_groups=True"):
        large.derive(FUNCTIONS["trace"])
    assert ss.simulate(PROBLEM, ss.SGD(0.5), **few, keep_groups=True).groups is not None
    monkeypatch.undo()
    assert ss.simulate(PROBLEM, ss.SGD(0.5), **few, keep_groups=False).groups is None
    with pytest.raises(ValueError, match="keep_groups"):
        ss.simulate(PROBLEM, ss.SGD(0.5), **few, keep_groups="yes")


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda cov: cov, "'cov'.*what was measured: mean, covariance.*did you mean 'covariance'"),
        (lambda covariance: np.log(-covariance), "must be finite"),
        (lambda covariance: covariance * 1j, "real numbers"),
        (lambda: 1.0, "parameters are called"),
        (lambda *covariance: 1.0, "parameters are called"),
        (3.0, "a function"),
    ],
)
def test_refusals(result, function, said):
    with pytest.raises(ValueError, match=said):
        result.derive(function)
    with pytest.raises(ValueError, match="confidence"):
        result.derive(FUNCTIONS["trace"], confidence=95)


def test_too_few_groups():
    run = ss.simulate(PROBLEM, ss.SGD(0.5), batch_size=8, chains=6, steps=4, burn_in=2)
    with pytest.raises(ValueError, match=r"6 groups of chains.*at least 8"):
        run.derive(FUNCTIONS["trace"])


def test_of_every_point_of_a_sweep():
    grid = ss.sweep(PROBLEM, ss.SGD(0.5), batch_size=[4, 8], learning_rate=[0.1, 0.3, 0.5], chains=100, steps=20,
                    burn_in=10)  # fmt: skip
    found = grid.derive(lambda covariance: np.linalg.eigvalsh(covariance))
    assert found.value.shape == found.stderr.shape == found.interval[1].shape == (2, 3, 3)
    alone = grid.sel(batch_size=8, learning_rate=0.3).derive(lambda covariance: np.linalg.eigvalsh(covariance))
    np.testing.assert_allclose(found.value[1, 1], alone.value)
    np.testing.assert_allclose(found.stderr[1, 1], alone.stderr)


@pytest.mark.slow
def test_intervals_cover_as_promised():
    """400 runs: 95 % intervals hold the exact value in 93 to 97 % of them."""
    law = ss.predict(PROBLEM, ss.SGD(0.5), batch_size=8)
    known = {"covariance": law.covariance, "train_loss": law.train_loss}
    truth = {name: f(**{n: known[n] for n in f.__code__.co_varnames}) for name, f in FUNCTIONS.items()}
    covered = dict.fromkeys(FUNCTIONS, 0)
    for seed in range(400):
        run = ss.simulate(PROBLEM, ss.SGD(0.5), **RUN, seed=seed)
        for name, function in FUNCTIONS.items():
            low, high = run.derive(function).interval
            covered[name] += low < truth[name] < high
    shares = {name: number / 400 for name, number in covered.items()}
    print(shares)
    assert all(0.93 <= share <= 0.97 for share in shares.values()), shares
