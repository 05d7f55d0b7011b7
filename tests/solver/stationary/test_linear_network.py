import numpy as np
import pytest
import scipy

import sgdsim as ss
from sgdsim.solver.stationary import stationary_covariance

TEACHER = np.array([[2.0, 0.3, 0.1], [0.2, 1.0, -0.5]])


def network(target=TEACHER, hidden=3, label_noise=0.3, logs=None):
    """A teacher at the minimum W1'W1 = V K^2 S V', W2 W2' = U S U' / K^2; `logs` are those of K^4."""
    outputs, inputs = target.shape
    u, s, vt = np.linalg.svd(target)
    k = np.exp(np.broadcast_to(np.log(inputs / outputs) if logs is None else logs, s.shape) / 4)
    inner, outer = np.zeros((hidden, inputs)), np.zeros((outputs, hidden))
    inner[: len(s)] = (k * np.sqrt(s))[:, None] * vt[: len(s)]
    outer[:, : len(s)] = u[:, : len(s)] * np.sqrt(s) / k
    return ss.TwoLayerLinear(inner, outer, label_noise=label_noise)


def regulariser(problem, rate, momentum):
    """R of label noise alone, from the Hessian at a minimum."""
    j = jacobian(problem)
    inside = np.eye(len(j)) - rate / (2 * (1 + momentum)) * j @ j.T
    sign, log = np.linalg.slogdet(inside)
    return -(1 + momentum) / (2 * rate) * log if sign > 0 else np.inf


def drifted(target, hidden, rate, momentum):
    """The network at the least R along the minima."""
    start = np.full(min(target.shape), np.log(target.shape[1] / target.shape[0]))
    found = scipy.optimize.minimize(lambda x: regulariser(network(target, hidden, logs=x), rate, momentum), start,
                                    method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-15})
    return network(target, hidden, logs=found.x)


def jacobian(problem, w=None):
    """Derivative of the product with respect to the weights, by differences of a bilinear map (exact)."""
    w = problem.minimum if w is None else w
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
    rate, b = 0.2, 10**9
    problem = drifted(target, hidden, rate, momentum)
    j = jacobian(problem)
    one = np.eye(problem.target.size)
    expected = stationary_covariance(one, 0.3**2 / b * one, rate * j @ j.T, momentum=momentum)
    law = ss.predict(problem, ss.SGD(rate, momentum), batch_size=b)
    np.testing.assert_allclose(law.product_covariance, expected, rtol=1e-6, atol=1e-8 * expected.max())
    flat = ss.solver.stationary.flattest_minimum(problem, ss.SGD(rate, momentum), batch_size=b)
    np.testing.assert_allclose(np.linalg.norm(flat[: problem.shapes[0][0] * target.shape[1]]),
                               np.linalg.norm(problem.unflatten(problem.minimum)[0]), rtol=1e-7)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("b", [2, 4, 64])
def test_second_moments_solve_their_own_recursion(b, momentum):
    """E Sigma-hat entry by entry: Cov = (E E')_ac delta_bd + E_ad E_cb, over b, summed with explicit indices.

    And the layers stay as they are: without momentum W1 W1' - W2' W2 moves by exactly lambda^2 (g1 g1' - g2' g2), which
    is W2' G G' W2 - W1 G' G W1' with the gradient G of the product.
    """
    problem, rate, sigma = network(), 0.05 if b < 64 else 0.2, 0.3
    optimizer = ss.SGD(rate * (1 - momentum), momentum)
    law = ss.predict(problem, optimizer, batch_size=b)
    flat = ss.solver.stationary.flattest_minimum(problem, optimizer, batch_size=b)
    inner, outer = problem.unflatten(flat)
    np.testing.assert_allclose(outer @ inner, TEACHER, atol=1e-14)
    v = law.product_covariance.reshape(2, 3, 2, 3)
    noise = np.einsum("akck,bd->abcd", v, np.eye(3)) + np.einsum("adcb->abcd", v)
    noise = (noise + sigma**2 * np.einsum("ac,bd->abcd", np.eye(2), np.eye(3))) / b
    j = jacobian(problem, flat)
    again = stationary_covariance(np.eye(6), noise.reshape(6, 6), rate * (1 - momentum) * j @ j.T, momentum=momentum)
    np.testing.assert_allclose(law.product_covariance, again, rtol=0, atol=1e-11 * again.max())
    if not momentum:
        total = v + noise
        left = outer.T @ np.einsum("abcb->ac", total) @ outer
        right = inner @ np.einsum("abad->bd", total) @ inner.T
        np.testing.assert_allclose(left, right, atol=1e-10 * left.max())


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_the_mean_is_a_critical_point_of_the_regularised_loss(momentum):
    """(P - T) + lambda dR/dT = 0, R least along the minima of the same product, derivative by differences."""
    rate, b, sigma = 0.2, 10**9, 0.3
    strength = rate * sigma**2 / (b * (1 - momentum))
    h = 1e-3
    slope = [(regulariser(drifted(TEACHER + h * d.reshape(2, 3), 3, rate, momentum), rate, momentum)
              - regulariser(drifted(TEACHER - h * d.reshape(2, 3), 3, rate, momentum), rate, momentum)) / (2 * h)
             for d in np.eye(6)]  # fmt: skip
    law = ss.predict(network(), ss.SGD(rate, momentum), batch_size=b)
    np.testing.assert_allclose(law.product_mean - TEACHER.ravel(), -strength * np.array(slope), rtol=2e-4,
                               atol=2e-4 * strength)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
@pytest.mark.parametrize("target", [TEACHER, TEACHER.T, TEACHER[:1], TEACHER[:, :1]])
def test_other_units_of_the_outputs(target, scale):
    """P and sigma times c, the rate over c: the largest rate was found to 1e-15 whatever its size."""
    def answers(c):
        problem = network(c * target, label_noise=0.01 * c)
        law = ss.predict(problem, ss.SGD(0.05 / c), batch_size=4)
        return law.max_learning_rate * c, law.product_covariance / c**2, law.product_mean / c, law.theory_error

    for known, found in zip(answers(1.0), answers(scale), strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-6, atol=1e-12)


def test_a_teacher_of_zero_and_one_of_lower_rank():
    nothing = ss.predict(ss.TwoLayerLinear([[0.0, 0.0]], [[1.0]], label_noise=0.3), ss.SGD(0.1), batch_size=4)
    assert nothing.max_learning_rate == np.inf and not nothing.product_covariance.any() and nothing.out_of_regime
    lower = network(np.diag([1.0, 0.0]), hidden=2)
    law = ss.predict(lower, ss.SGD(0.1), batch_size=64)
    v = law.product_covariance.diagonal()
    assert v[0] > v[1] > 0 and v[2] > 0 and v[3] == 0


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
