"""What so many correlated steps are worth: correlations as predicted, against what `simulate` measures."""

import numpy as np
import optax
import pytest

import sgdsim as ss

FAST = {
    "momentum": ss.SGD(0.3, 0.5),
    "average of gradients": optax.chain(optax.ema(0.8, debias=False), optax.scale(-0.6)),
}
SLOW = {
    "momentum": ss.SGD(0.05, 0.5),
    "average of gradients": optax.chain(optax.ema(0.8, debias=False), optax.scale(-0.05)),
}
COMPARISONS = len(FAST) + len(SLOW)
CASES = ["momentum", pytest.param("average of gradients", marks=pytest.mark.slow)]


def held(compare, ratio, stderr):
    """Measured over predicted is 1 within its error, and 5 % off either way is not."""
    assert stderr < 0.008
    compare(ratio, 1.0, stderr, COMPARISONS)
    for wrong in (0.95, 1.05):
        with pytest.raises(AssertionError):
            compare(ratio, wrong, stderr, COMPARISONS)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_mean_of_steps_is_worth_as_many_draws_as_predicted(name, assert_within_sigma):
    """T / tau: the variance of a mean of T steps, of eight parameters of one law, over that of one step."""
    problem, stretch = ss.LinearRegression(np.ones(8), label_noise=0.5), 600
    result = ss.simulate(
        problem, FAST[name], batch_size=4, chains=1000, steps=8 * stretch, burn_in=stretch, seed=1,
        statistics=[ss.statistics.Moments(), ss.statistics.IterateAverage(stretch)],
    )  # fmt: skip
    draws = result.derive(
        lambda covariance, average_600_covariance: np.trace(covariance) / np.trace(average_600_covariance)
    )
    tau = ss.predict(problem, FAST[name], batch_size=4).autocorrelation_time()[0]
    # a stretch lacks what lies beyond its ends: a share tau / 2T, small beside the error
    assert tau / (2 * stretch) < draws.stderr / draws.value / 2
    held(assert_within_sigma, draws.value * tau / stretch, draws.stderr * tau / stretch)


@pytest.mark.parametrize("name", CASES)
def test_effective_sample_size_is_as_predicted(name, assert_within_sigma):
    r"""Of n looks k steps apart: $n^2 / \sum_{|h| < n} (n - |h|) \rho(kh)$, in a thousand parameters of one law.

    Its inverse is a variance over G groups of chains: a chi-square law of G - 1 degrees, for each parameter.
    """
    parameters, chains, steps = 1000, 64, 600
    one, many = (ss.Quadratic(np.ones(d), np.ones(d)) for d in (1, parameters))
    theory = ss.predict(one, SLOW[name], batch_size=1)
    result = ss.simulate(many, SLOW[name], batch_size=1, chains=chains, steps=steps + 300, burn_in=300, seed=1,
                         statistics=[ss.statistics.Moments(full=False)])
    thin, groups = result.provenance["thin"], result.provenance["groups"]
    looks = steps // thin
    correlation = theory.autocovariance(range(0, steps, thin))[:, 0, 0] / theory.covariance[0, 0]
    weights = np.r_[looks, 2 * np.arange(looks - 1, 0, -1)]
    predicted = chains * looks**2 / (weights @ correlation)
    assert thin < theory.autocorrelation_time()[0] and predicted < chains * looks / 1.5, "correlations matter"
    held(assert_within_sigma, np.mean(predicted / result.ess), np.sqrt(2 / (groups - 1) / parameters))
