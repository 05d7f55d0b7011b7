"""Ellipse, cycling toy, diagonal network, matrix factorisation: the published numbers their formulas must give."""

import numpy as np
import pytest

import sgdsim as ss


def example_covariance(problem, w):
    """Covariance of one example's gradient without label noise."""
    g = np.stack([problem.example_gradient(w, (i, 0.0)) for i in range(problem.n_examples)])
    return (g - g.mean(axis=0)).T @ (g - g.mean(axis=0)) / len(g)


def test_the_ellipse_is_where_the_loss_is_least():
    problem = ss.Ellipse(2.0, 1.0)
    angles = np.linspace(-3.0, 3.0, 13)
    points = problem.point(angles)
    np.testing.assert_allclose(problem.residuals(points), 0.0, atol=1e-14)
    np.testing.assert_allclose(problem.loss(points), 0.125, rtol=1e-14)
    np.testing.assert_allclose(problem.angle(points), angles, atol=1e-14)
    np.testing.assert_allclose(problem.angle(1.3 * points), angles, atol=1e-14)


def test_on_the_ellipse_the_trace_is_least_at_the_tips_and_the_sum_of_roots_at_a_kink():
    """What SGD and Adam look for (section C3): (sqrt 2, sqrt 2), and (1.58114, 0.94868), where the slope in y is 0."""
    problem, angles = ss.Ellipse(2.0, 1.0), np.linspace(0.0, np.pi / 2, 100_001)
    slopes = problem.vjp(problem.point(angles), np.ones(1))
    np.testing.assert_allclose(problem.point(angles[(slopes**2).sum(axis=0).argmin()]), np.sqrt([2.0, 2.0]), atol=1e-4)
    best = problem.point(angles[np.abs(slopes).sum(axis=0).argmin()])
    np.testing.assert_allclose(best, [np.sqrt(2.5), 3 / np.sqrt(10)], atol=1e-4)


@pytest.mark.parametrize("angle", [0.0, 0.8, 2.5, 4.0])
def test_the_cycling_toy_has_the_published_curvature_and_noise(angle):
    """Section B5: 13 H_i and 13 Sigma_i of the four z on the circle, and the turn that they give."""
    problem, (x, y) = ss.CyclingToy(), (np.cos(angle), np.sin(angle))
    w = np.array([x, y, 0.0, 0.0, 0.0, 0.0])
    curvature = np.array([2 * (1 - y) ** 2 + (1 - x) ** 2, 2 * (1 + y) ** 2 + (1 + x) ** 2,
                          2 * (1 - x) ** 2 + (1 + y) ** 2, 2 * (1 + x) ** 2 + (1 - y) ** 2])
    noise = 2 * np.array([1 - y, 1 + y, 1 - x, 1 + x]) ** 2
    np.testing.assert_allclose(13 * problem.hessian(w)[2:, 2:], np.diag(curvature), atol=1e-13)
    np.testing.assert_allclose(13 * example_covariance(problem, w), np.diag([0, 0, *noise]), atol=1e-13)
    np.testing.assert_allclose(problem.gradient(w), 0.0, atol=1e-14)


def test_it_turns_at_ten_over_117_at_the_start():
    """d(angle)/eta^2 = -1/2 sum_i (Sigma_i / 2 H_i) dH_i/d(angle), all from the problem's own derivatives."""
    problem, step = ss.CyclingToy(), 1e-4

    def point(angle):
        return np.array([np.cos(angle), np.sin(angle), 0, 0, 0, 0])

    for angle, speed in ((0.0, 10 / 117), (np.pi / 4, 0.0702494)):
        curvature = [np.diag(problem.hessian(point(angle + s)))[2:] for s in (-step, 0.0, step)]
        noise = np.diag(example_covariance(problem, point(angle)))[2:]
        turn = -(noise / (2 * curvature[1]) * (curvature[2] - curvature[0]) / (2 * step)).sum() / 2
        np.testing.assert_allclose(turn, speed, atol=1e-7)


def test_the_hessian_of_the_diagonal_network_has_diagonal_4_w():
    """Section 5.2 of paper 004: Diag(H) = 4 theta^2 on the minima, for features +-1."""
    problem = ss.DiagonalNetwork.random(30, 12, 4, seed=1)
    np.testing.assert_allclose(problem.residuals(problem.minimum), 0.0, atol=1e-13)
    np.testing.assert_allclose(np.diag(problem.hessian()), 4 * problem.minimum**2, atol=1e-12)
    np.testing.assert_allclose(problem.effective(problem.minimum), problem.teacher, atol=1e-14)
    assert float(problem.test_loss(problem.minimum)) < 1e-25


def test_random_diagonal_networks_are_nested_and_sparse():
    small, large = (ss.DiagonalNetwork.random(50, n, 7, seed=3) for n in (5, 20))
    np.testing.assert_array_equal(small.features, large.features[:5])
    np.testing.assert_array_equal(small.teacher, large.teacher)
    assert (small.teacher != 0).sum() == 7 and set(np.unique(large.features)) == {-1.0, 1.0}
    assert float(small.test_loss(small.default_start)) == pytest.approx(7.0, rel=1e-14)
    gaussian = ss.DiagonalNetwork.random(50, 5, 7, seed=3, amplitudes="gaussian")
    assert len(set(np.abs(gaussian.teacher))) == 8


@pytest.mark.parametrize(("depth", "width"), [(1, None), (2, None), (3, 5), (4, 3)])
def test_the_minimum_of_a_matrix_problem_is_the_teacher_balanced(depth, width):
    teacher = np.arange(12.0).reshape(3, 4)
    problem = ss.MatrixFactorization(np.ones((2, 3, 4)), teacher=teacher, depth=depth, width=width)
    layers = problem.unflatten(problem.minimum)
    assert [layer.shape[1] for layer in layers] == [4, *[width or 4] * (depth - 1)]
    np.testing.assert_allclose(problem.end_to_end(problem.minimum), teacher, atol=1e-12)
    spectra = [np.linalg.svd(layer, compute_uv=False)[:3] for layer in layers]
    np.testing.assert_allclose(spectra, np.tile(spectra[0], (depth, 1)), atol=1e-6)


def test_measurements_are_inner_products_and_random_ones_nested():
    small, large = (ss.MatrixFactorization.random(4, 2, n, seed=5) for n in (3, 9))
    np.testing.assert_array_equal(small.features, large.features[:3])
    teacher = small.teacher.reshape(4, 4)
    assert np.linalg.matrix_rank(teacher) == 2
    np.testing.assert_allclose(small.targets, [np.trace(a.reshape(4, 4).T @ teacher) for a in small.features])
    factors = [np.ones((4, 4)), np.eye(4) * 2]
    w = small.flatten(*factors)
    np.testing.assert_allclose(small.residuals(w), 2 * small.features.sum(axis=1) - small.targets)
    np.testing.assert_allclose(small.test_loss(w), ((2 - teacher) ** 2).sum())


def test_without_a_teacher_the_test_loss_is_the_excess():
    x = np.random.default_rng(0).standard_normal((9, 2))
    problem = ss.DiagonalNetwork(x, x @ [1.0, -2.0] + 0.3 * np.arange(9.0), label_noise=0.4)
    excess = problem.loss(problem.default_start) - problem.loss(problem.minimum)
    np.testing.assert_allclose(problem.test_loss(problem.default_start), excess, rtol=1e-12)


def test_a_deterministic_teacher_beside_noisy_targets_is_kept():
    problem = ss.DiagonalNetwork(np.eye(2), [1.1, -0.2], teacher=[1.0, 0.0])
    np.testing.assert_allclose(problem.effective(problem.minimum), [1.1, -0.2])
    np.testing.assert_allclose(problem.test_loss(problem.minimum), 0.05)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ss.DiagonalNetwork.random(10**12, 10, 2),
        lambda: ss.DiagonalNetwork.random(10**6, 10**6, 2),
        lambda: ss.MatrixFactorization.random(10**9, 10, 2),
        lambda: ss.MatrixFactorization(np.ones((2, 3, 3)), [1.0, 2.0], depth=10**12),
    ],
)
def test_what_no_memory_holds_is_refused(make):
    with pytest.raises(ValueError, match="must be a whole number"):
        make()
