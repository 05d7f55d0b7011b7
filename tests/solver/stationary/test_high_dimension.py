import time

import closed_forms
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.solver import predict
from sgdsim.solver.stationary import hessian_fluctuation, high_dimension_law, marchenko_pastur


def draw(n, d, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    return ss.DatasetRegression(rng.normal(size=(n, d)), noise * rng.normal(size=n))


@pytest.mark.parametrize("ratio", [0.3, 1.0, 1.5, 10.0])
def test_moments_of_the_marchenko_pastur_law(ratio):
    """v, v^2 (1 + 1/alpha), v^3 (1 + 3/alpha + 1/alpha^2): its known moments."""
    h = marchenko_pastur(20_000, ratio=ratio, variance=2.0)
    c = 1 / ratio
    expected = [2.0, 4 * (1 + c), 8 * (1 + 3 * c + c**2)]
    np.testing.assert_allclose([np.mean(h**k) for k in (1, 2, 3)], expected, rtol=1e-3)
    assert np.mean(h == 0) == pytest.approx(max(0, 1 - ratio), abs=1e-4)


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_a_large_draw_has_that_spectrum(ratio):
    h = np.linalg.eigvalsh(draw(int(400 * ratio), 400).gram)
    assert np.abs(h - marchenko_pastur(400, ratio=ratio)).mean() < 0.02


@pytest.mark.parametrize("ratio", [1.5, 4.0])
def test_the_law_is_the_leading_order_of_the_exact_value(ratio):
    """With the draw's own residual in place of sigma, its error falls about as 1/D."""

    def error(d, seed):
        problem = draw(int(ratio * d), d, seed)
        exact = 2 * predict(problem, ss.SGD(1 / d), batch_size=16).test_loss
        own = np.sqrt(2 * problem.least_loss / (1 - 1 / ratio))
        h = np.linalg.eigvalsh(problem.gram)
        return abs(high_dimension_law(h, 1 / d, 16, own, ratio=ratio).fluctuation / exact - 1)

    small, large = (np.mean([error(d, seed) for seed in range(draws)]) for d, draws in ((8, 20), (40, 6)))
    assert large < small / 2 and large < 0.1


def test_many_examples_leave_the_label_noise_law_less_what_the_batch_shares():
    """alpha -> infinity: section 3's G has 1 + 1/b, this law 1 - 1/b, the same for large b."""
    h = np.full(50, 0.7)
    found = high_dimension_law(h, 0.02, 4096, 0.5, ratio=1e9, momentum=0.3).fluctuation
    expected = 2 * closed_forms.label_noise_law(np.diag(h), 0.02, 4096, 0.5, 0.3).test_loss
    assert found == pytest.approx(expected, rel=1e-4)


def test_below_the_threshold_there_is_no_fluctuation_and_predict_says_why():
    problem = draw(15, 30)
    law = predict(problem, ss.SGD(0.02), batch_size=4)
    assert not law.covariance.any() and not law.noise_covariance.any()
    assert "fits every example" in law.regime and law.test_loss < 1e-20
    h = np.linalg.eigvalsh(problem.gram)
    assert high_dimension_law(h, 0.02, 4, 1.0, ratio=0.5).fluctuation == 0
    assert hessian_fluctuation(h, 0.02, 4, 1.0).fluctuation > 0
    result = ss.simulate(problem, ss.SGD(0.02), batch_size=4, chains=64, steps=4000, burn_in=3900, seed=1,
                         statistics=[ss.statistics.Losses()])
    assert result.test_loss < 1e-3 * problem.test_loss(problem.default_start)
    # fresh label noise on the same interpolating data does fluctuate
    noisy = ss.DatasetRegression(problem.features, problem.targets, label_noise=0.5)
    assert predict(noisy, ss.SGD(0.02), batch_size=4).covariance.any()


def test_hessian_fluctuation_is_the_trace_of_its_law():
    h = np.array([0.2, 1.0, 3.0])
    law = closed_forms.hessian_law(np.diag(h), 0.1, 8, 0.5)
    found = hessian_fluctuation(h, 0.1, 8, 0.5)
    assert found.fluctuation == pytest.approx(np.trace(np.diag(h) @ law))
    assert found.trace == pytest.approx(np.trace(law))


@pytest.mark.parametrize("mu", [0.0, 0.4])
def test_the_law_of_every_eigenvalue(mu):
    """Its Sigma solves equation (80) with a C that is C(Sigma) of Proposition 4; at the limit the trace diverges."""
    h, rate, b, sigma, ratio = np.array([0.0, 0.2, 1.0, 3.0]), 0.2, 4, 0.7, 3.0
    law = high_dimension_law(h, rate, b, sigma, ratio=ratio, momentum=mu)
    noise = (h * (h @ law.covariance) - h**2 * law.covariance + sigma**2 * (1 - 1 / ratio) * h) / b
    np.testing.assert_allclose(law.noise_covariance, noise, rtol=1e-12)
    left = 2 * (1 - mu) * h * law.covariance - (1 - mu) / (1 + mu) * rate * h**2 * law.covariance
    np.testing.assert_allclose(left, rate * noise, rtol=1e-12)
    assert law.covariance[0] == 0 and law.trace == pytest.approx(law.covariance.sum())
    assert law.fluctuation == pytest.approx(h @ law.covariance, rel=1e-12)
    assert high_dimension_law(h, 0.9999 * law.max_learning_rate, b, sigma, ratio=ratio, momentum=mu).trace > 100
    with pytest.raises(ValueError, match="learning_rate"):
        high_dimension_law(h, 1.0001 * law.max_learning_rate, b, sigma, ratio=ratio, momentum=mu)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("mu", [0.0, 0.9])
def test_batches_of_any_size(mu, scale):
    """So many examples leave full-batch descent and its limit 2 (1 + mu) / h."""
    law = high_dimension_law([scale, 0.5 * scale], 0.1 / scale, 10**15, 1.0, ratio=2.0, momentum=mu)
    assert law.max_learning_rate == pytest.approx(2 * (1 + mu) / scale, rel=1e-9)
    h = np.array([1.0, 0.5])
    left = 0.5 * 0.1 / 10**15 * np.sum(h / (2 * (1 - mu) - (1 - mu) / (1 + mu) * 0.1 * h))
    assert law.fluctuation == pytest.approx(left, rel=1e-9)


def test_the_trace_and_the_limit_are_those_of_data():
    problem = draw(160, 40, seed=5)
    h = np.linalg.eigvalsh(problem.gram)
    own = np.sqrt(2 * problem.least_loss / (1 - 40 / 160))
    law, exact = high_dimension_law(h, 0.1, 16, own, ratio=4.0), predict(problem, ss.SGD(0.1), batch_size=16)
    assert law.trace == pytest.approx(np.trace(exact.covariance), rel=0.03)
    assert np.sum(law.noise_covariance) == pytest.approx(np.trace(exact.noise_covariance), rel=0.03)
    assert law.max_learning_rate == pytest.approx(exact.max_learning_rate, rel=0.1)


def test_simulation_agrees_across_the_threshold(assert_within_sigma):
    """D = 60 > 16 features: the wide layout of the data kernel, losses alone."""
    problem = draw(90, 60, seed=3)
    theory = 2 * predict(problem, ss.SGD(0.1), batch_size=32).test_loss
    result = ss.simulate(problem, ss.SGD(0.1), batch_size=32, chains=256, steps=1600, burn_in=1000, seed=2,
                         initial=problem.minimum, statistics=[ss.statistics.Losses()])
    estimate, stderr = 2 * result.test_loss, 2 * result.test_loss_stderr
    assert_within_sigma(estimate, theory, stderr, 1)
    with pytest.raises(AssertionError):
        assert_within_sigma(estimate, 1.03 * theory, stderr, 1)


@pytest.mark.slow
def test_a_thousand_parameters_take_minutes():
    problem = draw(1000, 1000)
    begun = time.perf_counter()
    predict(problem, ss.SGD(0.01), batch_size=32)
    ss.simulate(problem, ss.SGD(0.01), batch_size=32, chains=64, steps=2000, burn_in=1000)
    assert time.perf_counter() - begun < 300


@pytest.mark.parametrize(("call", "says"), [
    (lambda: high_dimension_law([1.0, -1.0], 0.1, 8, 1.0, ratio=2.0), "eigenvalues"),
    (lambda: high_dimension_law([0.0], 0.1, 8, 1.0, ratio=2.0), "eigenvalues"),
    (lambda: high_dimension_law([1.0], 0.1, 8, 1.0, ratio=0.0), "ratio"),
    (lambda: high_dimension_law([1.0], 0.1, 0, 1.0, ratio=2.0), "batch_size"),
    (lambda: high_dimension_law([1.0], 2.5, 8, 1.0, ratio=2.0), "learning_rate"),
    (lambda: high_dimension_law([1.0] * 20, 1.0, 8, 1.0, ratio=2.0), "learning_rate"),
    (lambda: high_dimension_law([1.0], 0.1, 8, -1.0, ratio=2.0), "label_noise"),
    (lambda: hessian_fluctuation([1.0], 2.0, 8, 1.0), "learning_rate"),
    (lambda: marchenko_pastur(0, ratio=1.0), "dimension"),
])  # fmt: skip
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()
