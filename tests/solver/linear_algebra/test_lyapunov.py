import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.solver.linear_algebra import discrete_lyapunov, spectral_radius


def residual(a, x, q):
    return np.abs(x - a @ x @ np.conj(np.swapaxes(a, -1, -2)) - q).max() / np.abs(x).max()


def test_known_answers():
    x = discrete_lyapunov([[0, 1], [-0.5, -1]], np.diag([0.0, 9.0]))
    np.testing.assert_allclose(x, [[21.6, -14.4], [-14.4, 21.6]], rtol=1e-13)
    assert x.dtype == np.float64
    # QuantEcon's case has radius 1; just inside, AB = 0 gives X = B too
    b = np.array([[0.5, -0.5], [-0.5, 0.5]])
    np.testing.assert_allclose(discrete_lyapunov(np.full((2, 2), 0.499), b), b, rtol=1e-14)
    a = np.array([[3.0, 1, 1], [1, 3, 0], [0, 0, 3]])  # SLICOT SB03MD, A'XA - X = C, backwards in time
    c = np.array([[25.0, 24, 15], [24, 32, 8], [15, 8, 40]])
    back = np.linalg.inv(a).T
    np.testing.assert_allclose(discrete_lyapunov(back, back @ c @ back.T), [[2, 1, 1], [1, 3, 0], [1, 0, 4]],
                               rtol=1e-12, atol=1e-13)


def test_complex_companion_and_a_defective_matrix():
    a = np.diag(np.full(10, 1.0 + 0j), -1)
    a[0, -1] = 0.9 * np.exp(0.3j)
    q = np.arange(121.0).reshape(11, 11) + 1j
    assert residual(a, discrete_lyapunov(a, q), q) < 1e-12
    critical = np.array([[0.9, 1.0], [0.0, 0.9]])
    assert residual(critical, discrete_lyapunov(critical, np.eye(2)), np.eye(2)) < 1e-13


@pytest.mark.parametrize("radius", [0.1, 0.9, 1 - 1e-6])
def test_residual_of_a_batch(radius):
    rng = np.random.default_rng(1)
    a = rng.normal(size=(5, 30, 30))
    a *= radius / np.abs(np.linalg.eigvals(a)).max(axis=-1)[:, None, None]
    q = rng.normal(size=(30, 30))
    assert residual(a, discrete_lyapunov(a, q), q) < 1e-12


@pytest.mark.parametrize(
    ("a", "radius"),
    [([[1.0]], "1"), ([[0, 1], [-1, 0]], "1"), (np.full((2, 2), 0.5), "1"),
     ([[0.5, 1], [0, 2]], "2"), (1.1 * np.eye(2), "1.1"),
     ([[3, 1, 1], [1, 3, 0], [0, 0, 3]], "4")],
)
def test_unstable_is_refused(a, radius):
    with pytest.raises(ValueError, match=f"spectral radius {radius},.*below 1.*lower"):
        discrete_lyapunov(a, np.eye(len(a)))


def test_one_unstable_in_a_batch_is_named_and_traced_is_nan():
    a = np.array([[[0.5]], [[1.5]]])
    with pytest.raises(ValueError, match=r"radius 1\.5"):
        discrete_lyapunov(a, np.ones((2, 1, 1)))
    x = jax.vmap(jax.jit(discrete_lyapunov))(jnp.asarray(a), jnp.ones((2, 1, 1)))
    assert np.isnan(x[1, 0, 0])
    np.testing.assert_allclose(x[0, 0, 0], 4 / 3, rtol=1e-6)


@pytest.mark.parametrize("a", [np.eye(3)[:2], [0.5], [[np.nan]]])
def test_bad_shapes_are_refused(a):
    with pytest.raises(ValueError, match="must be"):
        discrete_lyapunov(a, np.eye(2))


@pytest.mark.parametrize("batch", [(), (0,), (1,), (175,), (176,), (3, 127)])
def test_chunks_on_threads_match_the_plain_path(batch):  # more than 175 of this size are split
    rng = np.random.default_rng(3)
    a, q = rng.normal(size=(2, *batch, 20, 20)) * 0.15
    with jax.enable_x64(True):
        plain = jax.jit(discrete_lyapunov)(a, q)
    x = discrete_lyapunov(a, q)
    assert x.dtype == np.float64 and x.shape == a.shape
    np.testing.assert_allclose(x, plain, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(discrete_lyapunov(a, 1j * q), 1j * x, rtol=1e-11, atol=1e-13)


def test_a_last_chunk_that_is_unstable_is_named():
    a = np.tile(0.5 * np.eye(20), (177, 1, 1))
    a[-1] *= 3
    with pytest.raises(ValueError, match=r"radius 1\.5"):
        discrete_lyapunov(a, np.eye(20))


def test_large_systems_take_the_other_path():
    rng = np.random.default_rng(4)
    a, q = rng.normal(size=(2, 65, 65)) * 0.1
    assert residual(a, discrete_lyapunov(a, q), q) < 1e-12


def test_bad_pair_is_refused():
    with pytest.raises(ValueError, match="same size"):
        discrete_lyapunov(0.5 * np.eye(2), np.eye(3))


def test_derivatives_match_finite_differences():
    rng = np.random.default_rng(2)

    def f(a, q):
        return jnp.sum(jnp.sin(discrete_lyapunov(a, q)))

    with jax.enable_x64(True):
        a, q, e = (jnp.asarray(x) for x in rng.normal(size=(3, 3, 3)) * 0.3)
        da, dq = jax.jit(jax.grad(f, (0, 1)))(a, q)
        h = 1e-6
        np.testing.assert_allclose(jnp.sum(da * e), (f(a + h * e, q) - f(a - h * e, q)) / (2 * h), rtol=1e-7)
        np.testing.assert_allclose(jnp.sum(dq * e), (f(a, q + h * e) - f(a, q - h * e)) / (2 * h), rtol=1e-7)
        np.testing.assert_allclose(jax.jvp(f, (a, q), (e, e))[1], jnp.sum((da + dq) * e), rtol=1e-10)
        both = jax.vmap(jax.grad(f), in_axes=(0, None))(jnp.stack([a, a / 2]), q)
        np.testing.assert_allclose(both[0], da, rtol=1e-10)


def test_spectral_radius():
    assert spectral_radius([[0, 1], [-1, 0]]) == pytest.approx(1)


@pytest.mark.parametrize("power", [10, 65, 120])
def test_units_far_apart(power):
    """A and T^-1 A T have solutions that differ by T alone."""
    a, q, t = np.array([[0.5, 0.3], [0.1, 0.4]]), np.eye(2), np.array([10.0**power, 1.0])
    known = discrete_lyapunov(a, q)
    found = discrete_lyapunov(a * t[:, None] / t, q * np.outer(t, t))
    np.testing.assert_allclose(found / np.outer(t, t), known, rtol=1e-12)


def test_overflow_is_not_called_unstable():
    with pytest.raises(ValueError, match=r"a is .* finite in double precision"):
        discrete_lyapunov([[0.5, 1e200], [0.0, 0.5]], np.eye(2))
