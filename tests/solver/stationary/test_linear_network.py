import numpy as np
import pytest

import sgdsim as ss
from sgdsim.solver.stationary import stationary_covariance

TEACHER = np.array([[2.0, 0.3, 0.1], [0.2, 1.0, -0.5]])


def network(target=TEACHER, hidden=3, label_noise=0.3):
    """A teacher at the flattest minimum: W1'W1 = k^2 V S V', W2 W2' = U S U' / k^2."""
    outputs, inputs = target.shape
    u, s, vt = np.linalg.svd(target)
    k = (inputs / outputs) ** 0.25
    inner, outer = np.zeros((hidden, inputs)), np.zeros((outputs, hidden))
    inner[: len(s)] = k * np.sqrt(s)[:, None] * vt[: len(s)]
    outer[:, : len(s)] = u[:, : len(s)] * np.sqrt(s) / k
    return ss.TwoLayerLinear(inner, outer, label_noise=label_noise)


def jacobian(problem):
    """Derivative of the product with respect to the weights, by differences of a bilinear map (exact)."""
    w = problem.minimum
    columns = [(problem.end_to_end(w + d) - problem.end_to_end(w - d)).ravel() / 2 for d in np.eye(len(w))]
    return np.stack(columns, axis=1)


def test_the_flattest_minimum_has_the_smallest_trace(rng):
    problem = network(TEACHER, hidden=3)
    w = ss.solver.stationary.flattest_minimum(problem)
    np.testing.assert_allclose(problem.end_to_end(w), TEACHER, atol=1e-14)
    inner, outer = problem.unflatten(w)
    least = np.trace(problem.hessian(w))
    for _ in range(20):
        gauge = np.eye(3) + 0.1 * rng.standard_normal((3, 3))
        moved = problem.flatten(gauge @ inner, outer @ np.linalg.inv(gauge))
        assert np.trace(problem.hessian(moved)) > least


@pytest.mark.parametrize("momentum", [0.0, 0.6])
@pytest.mark.parametrize(("target", "hidden"), [(TEACHER, 3), (TEACHER.T, 2), (np.diag([1.0, 0.5]), 4)])
def test_many_examples_leave_the_lyapunov_equation_of_label_noise(target, hidden, momentum):
    """In product space: unit Hessian, preconditioner JJ', noise sigma^2/b; the batch's inputs add 1/b of that."""
    problem, rate, b = network(target, hidden), 0.05, 10**9
    j = jacobian(problem)
    one = np.eye(problem.target.size)
    expected = stationary_covariance(one, 0.3**2 / b * one, rate * j @ j.T, momentum=momentum)
    law = ss.predict(problem, ss.SGD(rate, momentum), batch_size=b)
    np.testing.assert_allclose(law.product_covariance, expected, rtol=1e-7, atol=1e-12 * expected.max())


def test_second_moments_solve_their_own_recursion():
    """E Sigma-hat entry by entry: Cov = (E E')_ac delta_bd + E_ad E_cb, over b, summed with explicit indices."""
    problem, rate, b, sigma = network(), 0.05, 4, 0.3
    j = jacobian(problem)
    step = np.eye(6) - rate * j @ j.T
    law = ss.predict(problem, ss.SGD(rate), batch_size=b)
    v = law.product_covariance.reshape(2, 3, 2, 3)
    noise = np.einsum("akck,bd->abcd", v, np.eye(3)) + np.einsum("adcb->abcd", v)
    noise = (noise.reshape(6, 6) + sigma**2 * np.eye(6)) / b
    again = step @ law.product_covariance @ step.T + rate**2 * (j @ j.T) @ noise @ (j @ j.T)
    np.testing.assert_allclose(again, law.product_covariance, rtol=0, atol=1e-13)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_the_mean_is_a_critical_point_of_the_regularised_loss(momentum):
    """(P - T) + lambda dR/dT = 0, R from the Hessian of the flattest minimum, derivative by differences."""
    rate, b, sigma = 0.05, 8, 0.3
    strength = rate * sigma**2 / (b * (1 - momentum))

    def regulariser(target):
        j = jacobian(network(target))
        inside = np.eye(6) - rate / (2 * (1 + momentum)) * j @ j.T
        return -(1 + momentum) / (2 * rate) * np.linalg.slogdet(inside)[1]

    h = 1e-5
    slope = [(regulariser(TEACHER + h * d.reshape(2, 3)) - regulariser(TEACHER - h * d.reshape(2, 3))) / (2 * h)
             for d in np.eye(6)]
    law = ss.predict(network(), ss.SGD(rate, momentum), batch_size=b)
    np.testing.assert_allclose(law.product_mean - TEACHER.ravel(), -strength * np.array(slope), rtol=1e-6, atol=1e-10)


def test_limit_and_losses():
    problem = network()
    law = ss.predict(problem, ss.SGD(0.05), batch_size=4)
    near = ss.predict(problem, ss.SGD(0.9999 * law.max_learning_rate), batch_size=4)
    assert near.product_covariance.max() > 1000 * law.product_covariance.max() and near.out_of_regime
    with pytest.raises(ValueError, match="learning_rate is"):
        ss.predict(problem, ss.SGD(1.0001 * law.max_learning_rate), batch_size=4)
    moved = law.product_mean - TEACHER.ravel()
    assert law.test_loss == pytest.approx((np.trace(law.product_covariance) + moved @ moved) / 2, rel=1e-12)
    assert law.train_loss == pytest.approx(law.test_loss + 0.3**2, rel=1e-12)


@pytest.mark.parametrize(
    ("problem", "optimizer", "error", "why"),
    [
        (network(label_noise=0.0), ss.SGD(0.05), ValueError, "label_noise"),
        (ss.DeepLinear([[[1.0]], [[1.0]], [[1.0]]], label_noise=0.3), ss.SGD(0.05), NotImplementedError, "DeepLinear"),
        (network(), ss.Adam(0.05), NotImplementedError, "SGD"),
        (network(), ss.SGD(lambda t: 0.05), NotImplementedError, "constant"),
    ],
)
def test_refusals(problem, optimizer, error, why):
    with pytest.raises(error, match=why):
        ss.predict(problem, optimizer, batch_size=4)
