"""One Hessian and one third derivative, against those that JAX nests; one Newton, from beside the minima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.solver.manifold import flow_to_minimum, label_noise_flow, tangent_projection
from sgdsim.solver.manifold.derivatives import hessian, read_landscape, third, third_against

ELLIPSE = ss.Ellipse(a=2.0, b=1.0)


def bumpy(w):
    return jnp.sum(jnp.sin(w) * jnp.roll(w, 1) ** 2)


@pytest.mark.parametrize("dimension", [3, 70])  # all columns at once, and in two goes
def test_against_nested_derivatives(dimension, rng):
    with jax.enable_x64(True):
        w = jnp.asarray(rng.normal(size=dimension))
        s, a, b = (jnp.asarray(rng.normal(size=(dimension, n))) for n in (dimension, 2, 2))
        h = jax.jit(lambda v: hessian(bumpy, v))(w)
        np.testing.assert_allclose(h, jax.jit(jax.hessian(bumpy))(w), rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(h, h.T)
        bends = jax.jit(jax.jacfwd(jax.hessian(bumpy)))(w)
        against = jax.jit(lambda v: third_against(bumpy, v, s))(w)
        np.testing.assert_allclose(against, jnp.einsum("ijk,ij->k", bends, s), rtol=1e-10, atol=1e-10)
        pairs = jax.jit(lambda v: third(bumpy, v, a, b))(w)
        np.testing.assert_allclose(pairs, jnp.einsum("ijk,in,jn->kn", bends, a, b), rtol=1e-10, atol=1e-10)


def test_a_function_is_as_good_as_a_problem():
    w = ELLIPSE.point(0.7)
    np.testing.assert_allclose(tangent_projection(ELLIPSE.loss, w), tangent_projection(ELLIPSE, w))
    circle = flow_to_minimum(lambda v: 0.5 * (v @ v - 1.0) ** 2, [0.3, 0.4])
    np.testing.assert_allclose(circle, [0.6, 0.8], atol=1e-10)
    assert read_landscape(bumpy) == read_landscape(bumpy)  # compiled once
    with pytest.raises(ValueError, match="problem is 'int'"):
        read_landscape(3)


@pytest.mark.parametrize("off", [1e-6, -1e-6])
def test_beside_the_minima_newton_counts_the_curved_directions_again(off):
    """There the tangent is curved too, by the distance times the bending of the manifold."""
    w = ELLIPSE.point(0.7)
    assert np.linalg.eigvalsh(ELLIPSE.hessian((1 + off) * w))[0] / off > 0.1
    np.testing.assert_allclose(tangent_projection(ELLIPSE, (1 + off) * w), tangent_projection(ELLIPSE, w), atol=1e-5)
    on, beside = (label_noise_flow(ELLIPSE, x, [0.0, 1.0], learning_rate=0.01, label_noise=1.0)
                  for x in (w, (1 + off) * w))
    np.testing.assert_allclose(beside, on, atol=1e-5)


@pytest.mark.parametrize("slow", [1e-3, 1e-5, 1e-6 * 3])
def test_rank_of_curvatures_far_apart(slow):
    """Singular values 1 and `slow` of the Jacobian: rank two."""
    rows = np.array([[1.0, 0.0, 0.0], [0.0, slow, 0.0]])
    found = tangent_projection(lambda w: jnp.sum((rows @ w) ** 2) / 2, [0.0, 0.0, 1.0])
    np.testing.assert_allclose(found, np.diag([0.0, 0.0, 1.0]), atol=1e-9)
