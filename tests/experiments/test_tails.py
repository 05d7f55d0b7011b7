import numpy as np

from sgdsim.experiments.minibatch_noise.fig2 import Student


def test_student_is_found_in_its_own_samples():
    """(1 + w^2)^-(1 + beta)/2 is t_beta / sqrt(beta)."""
    w = np.random.default_rng(0).standard_t(6.0, 200_000) / np.sqrt(6.0)
    fit = Student.fit(w)
    assert abs(fit.beta - 6) < 4 * fit.stderr < 0.03 * 6
    share = np.mean(np.abs(w) > 1.0)
    assert abs(fit.beyond(1.0) - share) < 4 * np.sqrt(share / len(w))
