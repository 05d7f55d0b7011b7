import numpy as np

from sgdsim.statistics import nested_rhat, rank_normalised_rhat


def test_formula():
    means, variances = np.array([[0.0], [2.0]]), np.array([[1.0], [3.0]])
    np.testing.assert_allclose(nested_rhat(means, variances), [np.sqrt(1 + 2 / 2)])


def test_settled_chains_are_near_one(rng):
    assert rank_normalised_rhat(rng.standard_t(2, size=(8, 1000, 3))).max() < 1.005


def test_a_drifting_mean_is_seen(rng):
    x = rng.normal(size=(8, 1000, 2))
    x[..., 1] += np.linspace(0, 1, 8)[:, None]
    settled, drifting = rank_normalised_rhat(x)
    assert settled < 1.005
    assert drifting > 1.02


def test_a_growing_spread_is_seen(rng):
    x = rng.normal(size=(8, 1000, 1)) * np.linspace(1, 2, 8)[:, None, None]
    assert rank_normalised_rhat(x)[0] > 1.02


def test_too_little_to_say(rng):
    assert np.isnan(rank_normalised_rhat(rng.normal(size=(1, 1000, 2)))).all()
    assert np.isnan(rank_normalised_rhat(rng.normal(size=(8, 3, 2)))).all()
