"""The numbers of the page, without any page."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sgdsim.comparisons.comparison import AGREE, DISAGREE, OUT, UNDERPOWERED
from sgdsim.explore import model
from sgdsim.explore.inputs import Inputs

# All simulations here share one program: momentum, and a batch of 12 or more.
SHARED = Inputs(eigenvalues=(1.0, 0.25), momentum=0.5, batch_size=16, rate=0.5, chains=2048)


def change(**options):
    return dataclasses.replace(SHARED, **options)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"eigenvalues": (1.0,)}, "eigenvalues"),
        ({"eigenvalues": (1.0, 0.0)}, "eigenvalues"),
        ({"eigenvalues": (1.0, float("nan"))}, "eigenvalues"),
        ({"eigenvalues": ("1.0", 1.0)}, "eigenvalues"),
        ({"label_noise": 0.0}, "label_noise"),
        ({"momentum": 1.0}, "momentum"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2**20}, "batch_size"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"rate": 3.0}, "rate"),
        ({"rate": -1.0, "unit": "absolute"}, "rate"),
        ({"unit": "furlong"}, "unit"),
        ({"chains": 10**9}, "chains"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(options, names):
    with pytest.raises(ValueError, match=f"^{names}.* but it must be "):
        Inputs(**options)


@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_the_isotropic_law_is_the_closed_form(batch_size):
    a, sigma, b = 2.0, 0.7, batch_size
    inputs = Inputs(eigenvalues=(a, a), label_noise=sigma, batch_size=b, rate=0.6)
    found = model.theory(inputs)
    assert found.limit == pytest.approx(2 * b / (b + 3) / a, rel=1e-9)
    assert found.deterministic == pytest.approx(2 / a, rel=1e-9)
    rate = 0.6 * found.limit
    variance = rate * sigma**2 / (2 * b - rate * a * (b + 3))
    np.testing.assert_allclose(found.laws["exact"].covariance, variance * np.eye(2), rtol=1e-9, atol=1e-15)
    assert found.laws["exact"].values == pytest.approx({"trace": 2 * variance, "test_loss": a * variance})
    again = model.theory(dataclasses.replace(inputs, rate=rate, unit="absolute"))
    assert again.fraction == pytest.approx(0.6)


def test_ellipses_lie_one_and_two_deviations_out():
    law = model.theory(SHARED).laws["exact"]
    first, second = law.ellipses[:, :181], law.ellipses[:, 182:]
    for radius, points in ((1, first), (2, second)):
        distance = np.sqrt(np.einsum("ik,ij,jk->k", points, np.linalg.inv(law.covariance), points))
        np.testing.assert_allclose(distance, radius, rtol=1e-9)
    assert np.isnan(law.ellipses[:, 181]).all()


def test_curves_end_at_the_limit_and_do_not_depend_on_the_rate():
    found = model.curves(SHARED)
    assert found.limit == model.theory(SHARED).limit
    assert (np.diff(found.learning_rates) > 0).all() and found.learning_rates[-1] < found.limit
    exact = found.values["exact"]["test_loss"]
    assert (np.diff(exact) > 0).all() and exact[-1] > 20 * found.values["hessian"]["test_loss"][-1]
    assert model.curves(change(rate=0.1, seed=7)) is found


def test_the_simulation_agrees_with_the_exact_law_only(assert_within_sigma):
    inputs = change(rate=0.6)
    known = model.theory(inputs)
    found = model.measure(inputs, known)
    assert {row.verdict for row in found.rows["exact"]} == {AGREE}
    # The continuous approximation is some per cent off here, and is caught.
    verdicts = {row.quantity.split("[")[0]: row.verdict for row in found.rows["continuous"]}
    assert verdicts["covariance"] == verdicts["test_loss"] == DISAGREE
    exact = known.laws["exact"].values
    assert_within_sigma(found.values["test_loss"], exact["test_loss"], found.errors["test_loss"])
    assert_within_sigma(found.values["trace"], exact["trace"], found.errors["trace"])
    with pytest.raises(AssertionError):
        assert_within_sigma(found.values["test_loss"], 1.05 * exact["test_loss"], found.errors["test_loss"])
    assert found.cloud.shape == (1000, 2) and np.isfinite(found.cloud).all()
    assert found.steps * found.chains <= model.MAX_WORK and found.diverged == 0


def test_moving_a_slider_compiles_nothing(compilations):
    model.measure(SHARED, model.theory(SHARED))
    before = compilations()
    moved = change(rate=0.2, momentum=0.9, eigenvalues=(2.0, 0.5), label_noise=1.0, batch_size=64, seed=3)
    found = model.measure(moved, model.theory(moved))
    assert compilations() == before
    assert {row.verdict for row in found.rows["exact"]} == {AGREE}


def test_where_the_fourth_moment_is_missing_there_is_no_error_bar():
    inputs = change(rate=0.97)
    found = model.measure(inputs, model.theory(inputs))
    assert {row.verdict for row in found.rows["exact"]} >= {UNDERPOWERED}
    assert np.isnan(list(found.errors.values())).all() and np.isfinite(list(found.values.values())).all()


def test_past_the_limit_the_tail_index_is_all_there_is():
    inputs = change(rate=1.05)
    known = model.theory(inputs)
    assert known.laws == {} and known.fraction == pytest.approx(1.05)
    assert "tail index" in model.beyond(inputs, known.learning_rate)
    found = model.measure(inputs, known)
    assert found.rows == {} and np.isnan(list(found.errors.values())).all()


def test_where_no_law_exists_chains_diverge_and_that_is_shown():
    inputs = change(rate=100.0, unit="absolute")
    known = model.theory(inputs)
    assert model.beyond(inputs, known.learning_rate) == "no stationary law exists there"
    found = model.measure(inputs, known)
    assert found.diverged == found.chains
    assert found.cloud.shape == (0, 2) and found.ellipses.shape == (2, 0)


def test_a_run_too_short_to_forget_its_start_is_out_of_regime():
    inputs = change(rate=0.01, eigenvalues=(10.0, 0.01))
    found = model.measure(inputs, model.theory(inputs))
    assert found.steps == model.MAX_STEPS
    assert {row.verdict for row in found.rows["exact"]} == {OUT}
    assert "forgetting the start" in found.rows["exact"][0].note


@pytest.mark.parametrize("chains", [256, 4096, 16_384])
@pytest.mark.parametrize("radius", [0.0, 0.5, 0.99, 0.999999])
def test_no_run_is_longer_than_the_page_may_take(chains, radius):
    burn_in, steps, _ = model.duration(radius, chains)
    assert 0 <= burn_in < steps <= model.MAX_STEPS and steps * chains <= model.MAX_WORK
