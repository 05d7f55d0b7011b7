import closed_forms as forms
import numpy as np
import pytest

from sgdsim.optimizers import SGD
from sgdsim.problems import LinearRegression, Quadratic
from sgdsim.solver import predict

A = np.array([[1.0, 0.3], [0.3, 0.5]])
B = np.array([[0.2, -0.1], [-0.1, 0.4]])
U = np.array([1.0, -2.0])


@pytest.mark.parametrize("mu", [0.0, 0.5])
def test_label_noise(mu):
    law = forms.label_noise_law(A, 0.2, 4, 0.5, mu)
    exact = predict(LinearRegression(A, U, label_noise=0.5), SGD(0.2, mu), batch_size=4)
    np.testing.assert_allclose(law.covariance, exact.covariance, rtol=1e-12)
    np.testing.assert_allclose([law.train_loss, law.test_loss], [exact.train_loss, exact.test_loss], rtol=1e-12)


def test_input_noise_without_commuting():
    law = forms.input_noise_law(A, B, U, 0.3, 4)
    exact = predict(LinearRegression(A, U, input_noise=B), SGD(0.3), batch_size=4)
    np.testing.assert_allclose(law.covariance, exact.covariance, rtol=1e-12)
    np.testing.assert_allclose([law.train_loss, law.test_loss], [exact.train_loss, exact.test_loss], rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.3, -0.1])
def test_weight_decay(gamma):
    problem = LinearRegression(A, U, weight_decay=gamma)
    exact = predict(problem, SGD(0.3), batch_size=4).test_loss
    assert forms.weight_decay_test_loss(A, gamma * np.eye(2), U, 0.3, 4) == pytest.approx(exact, rel=1e-12)
    assert forms.weight_decay_test_loss(A, 1.03 * gamma * np.eye(2), U, 0.3, 4) != pytest.approx(exact, rel=1e-3)


def test_one_dimension_and_the_best_decay():
    exact = predict(LinearRegression([4.0], [1.0], weight_decay=-2.53), SGD(1.0), batch_size=64).test_loss
    assert forms.scalar_decay_test_loss(4.0, -2.53, 1.0, 64) == pytest.approx(exact, rel=1e-12)
    # Figure 5: a = 4, lambda = 1, b = 64
    gammas = np.linspace(-3.0, -2.3, 701)
    losses = [forms.scalar_decay_test_loss(4.0, g, 1.0, 64) for g in gammas]
    assert gammas[np.argmin(losses)] == pytest.approx(-2.53, abs=0.006)
    assert forms.negative_decay_helps(4.0, 1.0, 64)
    assert not forms.negative_decay_helps(1.0, 1.0, 64)


@pytest.mark.parametrize("mu", [0.0, 0.4])
def test_damped_newton(mu):
    exact = predict(
        LinearRegression(A, label_noise=0.5), SGD(0.3, mu, np.linalg.inv(A)), batch_size=4
    ).covariance
    np.testing.assert_allclose(forms.damped_newton_law(A, 0.3, 4, 0.5, mu), exact, rtol=1e-11)


@pytest.mark.parametrize(
    ("rate", "b", "exact", "continuous", "additive"),
    [(0.1, 1, 0.05882, 0.05, 0.05263), (0.3, 1, 0.27273, 0.15, 0.17647), (0.3, 4, 0.04839, 0.0375, 0.04412)],
)
def test_the_approximations_side_by_side(rate, b, exact, continuous, additive):
    problem = LinearRegression([1.0], label_noise=1.0)
    for name, value in (("exact", exact), ("continuous", continuous), ("hessian", additive)):
        law = predict(problem, SGD(rate), batch_size=b, approximation=name)
        assert law.covariance[0, 0] == pytest.approx(value, abs=6e-6)
    assert forms.continuous_law(1, rate, b)[0, 0] == pytest.approx(continuous, abs=6e-6)
    assert forms.hessian_law(np.eye(1), rate, b)[0, 0] == pytest.approx(additive, abs=6e-6)
    quadratic = predict(Quadratic([1.0], [1.0]), SGD(rate), batch_size=b)
    assert quadratic.covariance[0, 0] == pytest.approx(additive, abs=6e-6)


def test_approximations_in_two_dimensions():
    problem = LinearRegression(A, label_noise=0.5)
    optimizer = SGD(0.2, 0.5)
    law = predict(problem, optimizer, batch_size=4, approximation="continuous")
    np.testing.assert_allclose(law.covariance, forms.continuous_law(2, 0.2, 4, 0.5) / 0.5, atol=1e-15)
    law = predict(problem, SGD(0.2), batch_size=4, approximation="hessian")
    np.testing.assert_allclose(law.covariance, forms.hessian_law(A, 0.2, 4, 0.5), rtol=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: forms.label_noise_law(A, 2.0, 1, 0.5),
        lambda: forms.label_noise_law(A, 0.85, 1, 0.5),
        lambda: forms.input_noise_law(A, B, U, 1.5, 1),
        lambda: forms.weight_decay_test_loss(A, B, U, 0.1, 4),
        lambda: forms.weight_decay_test_loss(A, -2 * np.eye(2), U, 0.1, 4),
        lambda: forms.scalar_decay_test_loss(4.0, 0.0, 1.0, 64),
        lambda: forms.damped_newton_law(A, 0.5, 1, 0.5),
        lambda: forms.hessian_law(A, 2.0, 1),
    ],
)
def test_outside_the_regime(call):
    with pytest.raises(ValueError, match="must be"):
        call()


@pytest.mark.parametrize("case", ["label noise", "input noise", "weight decay"])
def test_table_2(case):
    """Every entry of the two left columns, and equation (22), as printed; all matrices commute."""
    a, u, rate, b, sigma = np.array([1.0, 0.4]), np.array([1.0, -2.0]), 0.3, 4, 0.7
    extra = np.array([0.2, 0.3])
    problem = {"label noise": LinearRegression(a, u, label_noise=sigma),
               "input noise": LinearRegression(a, u, input_noise=extra),
               "weight decay": LinearRegression(a, u, weight_decay=extra)}[case]
    k = a if case == "label noise" else a + extra
    least = sigma**2 / 2 if case == "label noise" else np.sum(a / k * extra * u**2) / 2
    off = {"label noise": 0.0, "input noise": np.sum((extra / k) ** 2 * a * u**2) / 2,
           "weight decay": np.sum(a * (extra / k) ** 2 * u**2) / 2}[case]
    for name, covariance in (("hessian_unit", rate / b / (2 - rate * k)), ("continuous_unit", rate / (2 * b) + 0 * k)):
        law = predict(problem, SGD(rate), batch_size=b, approximation=name)
        np.testing.assert_allclose(law.covariance, np.diag(covariance), rtol=1e-12)
        np.testing.assert_allclose(law.noise_covariance, np.diag(k) / b, rtol=1e-12)
        assert law.train_loss == pytest.approx(least + np.sum(k * covariance) / 2, rel=1e-12)
        assert law.test_loss == pytest.approx(off + np.sum(a * covariance) / 2, rel=1e-12)
    # what is left of the exact equations for large S, and for small lambda too
    noise = predict(problem, SGD(1e-9), batch_size=10**12).noise_covariance * 1e12 / b
    law = predict(problem, SGD(rate), batch_size=b, approximation="large_batch")
    np.testing.assert_allclose(np.diag(law.covariance), rate * np.diag(noise) / (k * (2 - rate * k)), rtol=1e-6)
    law = predict(problem, SGD(rate), batch_size=b, approximation="small_rate")
    np.testing.assert_allclose(np.diag(law.covariance), rate * np.diag(noise) / (2 * k), rtol=1e-6)
    if case == "label noise":
        one = predict(problem, SGD(rate), batch_size=b, approximation="large_batch").covariance
        np.testing.assert_allclose(one, rate * sigma**2 / b * np.diag(1 / (2 - rate * a)), rtol=1e-12)
