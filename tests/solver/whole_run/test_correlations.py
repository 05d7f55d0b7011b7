import numpy as np
import optax
import pytest

import sgdsim as ss

PROBLEM = ss.LinearRegression([[1.0, 0.2], [0.2, 0.5]], label_noise=0.5)
UPPER = ([0, 0, 1], [0, 1, 1])
PLAIN = ss.predict(PROBLEM, ss.SGD(0.3), batch_size=4)
HEAVY = ss.predict(PROBLEM, ss.SGD(0.05, 0.9), batch_size=4)


def test_the_sheet():
    lags = HEAVY.autocovariance([1, 20])
    np.testing.assert_allclose(lags[0][UPPER], [0.018302108609, 0.000192803674, 0.017820099424], atol=6e-13)
    np.testing.assert_allclose(lags[1][UPPER], [-0.002288477827, 0.001026821939, -0.004855532675], atol=6e-13)
    np.testing.assert_allclose(PLAIN.ema(0.9).covariance[UPPER],
                               [0.002962934873, -0.000627980710, 0.004532886648], atol=6e-13)
    mean = PLAIN.averaged(100)
    np.testing.assert_allclose(mean.covariance[UPPER], [0.000732396534, -0.000259586542, 0.001381362889], atol=6e-13)
    np.testing.assert_allclose(mean.limit[UPPER], [0.075970945746, -0.029020046067, 0.148521060914], atol=6e-13)


@pytest.mark.parametrize("law", [PLAIN, HEAVY])
def test_everything_is_a_sum_over_lags(law):
    lags = law.autocovariance(range(600))
    both = lags + lags.mT
    np.testing.assert_allclose(law.autocovariance([0])[0], law.covariance, rtol=1e-12)
    for count in (1, 2, 7, 64):
        direct = (count * lags[0] + sum((count - h) * both[h] for h in range(1, count))) / count**2
        np.testing.assert_allclose(law.averaged(count).covariance, direct, rtol=1e-11, atol=1e-16)
    omega = 0.7
    phase = np.exp(-1j * omega * np.arange(600))[:, None, None]
    direct = (phase * lags).sum(axis=0)
    np.testing.assert_allclose(law.spectrum([omega])[0], direct + direct.conj().T - lags[0], rtol=1e-9, atol=1e-12)
    tau = 2 * np.einsum("hii->i", lags) / np.diag(lags[0]) - 1
    np.testing.assert_allclose(law.autocorrelation_time(), tau, rtol=1e-9)
    np.testing.assert_allclose(np.diag(law.averaged(10).limit), tau * np.diag(law.covariance), rtol=1e-9)


def test_the_limit_of_the_mean_has_the_stationary_noise():
    inverse = np.linalg.inv(PROBLEM.hessian())
    np.testing.assert_allclose(PLAIN.averaged(5).limit, inverse @ PLAIN.noise_covariance @ inverse, rtol=1e-11)


def test_losses_at_an_average():
    mean = PLAIN.averaged(50)
    root = np.linalg.cholesky(mean.covariance)
    points = np.sqrt(2) * np.hstack([root, -root])
    assert mean.train_loss == pytest.approx(PROBLEM.loss(points).mean(), rel=1e-12)
    assert mean.test_loss == pytest.approx(PROBLEM.test_loss(points).mean(), rel=1e-12)


def test_flat_directions_do_not_vary():
    flat = ss.DatasetRegression([[1.0, 0, 1], [1, 0, 1], [0, 1, 1], [0, 1, 1]], [1.0, 2.0, 0.0, -0.5])
    law = ss.predict(flat, ss.SGD(0.3, 0.3), batch_size=2)
    np.testing.assert_allclose(law.autocovariance([0])[0], law.covariance, atol=1e-12)
    direct = law.autocovariance(range(400))
    limit = direct.sum(axis=0) + direct.sum(axis=0).T - direct[0]
    np.testing.assert_allclose(law.averaged(3).limit, limit, atol=1e-10)


def test_the_loss_of_one_parameter_forgets_twice_as_fast():
    """With additive noise, Cov(e_{t+h}^2, e_t^2) = 2 r^{2h} v^2: in closed form."""
    law = ss.predict(ss.Quadratic([1.0], [1.0]), ss.SGD(0.1), batch_size=1)
    assert law.autocorrelation_time("loss") == pytest.approx((1 + 0.81) / (1 - 0.81), rel=1e-9)
    assert law.autocorrelation_time()[0] == pytest.approx(1.9 / 0.1, rel=1e-9)


ACCUMULATE = optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation()
BAD = {
    "lags": (lambda: PLAIN.autocovariance([-1]), ValueError, "lags is -1"),
    "of": (lambda: PLAIN.autocorrelation_time("weights"), ValueError, "of is 'weights'"),
    "frequencies": (lambda: PLAIN.spectrum([np.nan]), ValueError, "frequencies is nan"),
    "steps": (lambda: PLAIN.averaged(0), ValueError, "steps is 0"),
    "decay": (lambda: PLAIN.ema(1.0), ValueError, "decay is 1.0"),
    "adam": (lambda: ss.predict(PROBLEM, ss.Adam(0.01), batch_size=4).averaged(3), NotImplementedError, "linear"),
    "periodic": (lambda: ss.predict(PROBLEM, ACCUMULATE, batch_size=4).ema(0.5), NotImplementedError, "periodic"),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(name):
    ask, kind, match = BAD[name]
    with pytest.raises(kind, match=match):
        ask()
