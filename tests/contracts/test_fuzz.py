"""Whatever is passed in, there is a result, a refusal in our words, or a status: never another exception, never NaN."""

from __future__ import annotations

import datetime
import decimal
import fractions
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sgdsim as ss
from sgdsim.engine.plan.request import check_request
from sgdsim.problems import check_sampling
from sgdsim.solver.predict import BeyondLimit

QUICK = settings(max_examples=25, deadline=None, derandomize=True, database=None,
                 suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much,
                                        HealthCheck.data_too_large])  # fmt: skip

# Things that no argument is made for, and things that some arguments are.
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(), st.just(10**400), st.floats(), st.floats(-3, 3),
    st.floats(0, 1), st.complex_numbers(), st.text(max_size=5), st.binary(max_size=3),
    st.sampled_from([np.float64("nan"), np.float32(0.5), np.int8(3), np.bool_(True), np.datetime64("2020-01-01"),
                     np.timedelta64(3, "s"), datetime.date(2020, 1, 1), decimal.Decimal("0.5"), decimal.Decimal("NaN"),
                     fractions.Fraction(1, 3), object(), int, len, ..., range(3), {}, {"a": 1}, {1.0, 2.0},
                     np.array(None), np.array("text"), np.zeros((0,)), np.zeros((2, 0)), np.ones((2, 2, 2)),
                     np.array([None, 1.0]),
                     np.array([1j, 2.0]), np.array(["a", "b"]), jnp.float32(0.5), b"\0"]),
)  # fmt: skip
JUNK = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
SIZES = st.sampled_from([1.0, 0.5, 0.1, 0.0, 2.0, 1e-3, 1e-12, 1e12, 1e-160, 1e50, 1e160, 1e-308])
SIGNED = st.one_of(SIZES, SIZES.map(lambda x: -x), st.floats(-3, 3))


def arrays(shape, numbers=SIGNED):
    return st.lists(numbers, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))).map(
        lambda values: np.reshape(np.array(values, np.float64), shape)
    )


def operators(dimension, numbers=SIZES):
    """Diagonals and symmetric matrices, most of them positive semi-definite."""
    gram = arrays((dimension, dimension), st.floats(-2, 2)).map(lambda a: a @ a.T)
    return st.one_of(arrays((dimension,), numbers), gram)


@st.composite
def or_junk(draw, sound=(), **fields):
    """Arguments as they should be, with now and then one that is not; those called `sound` always are."""
    chosen = {name: draw(strategy) for name, strategy in fields.items()}
    for name in draw(st.lists(st.sampled_from(sorted(set(fields) - set(sound))), max_size=2)):
        chosen[name] = draw(JUNK)
    return chosen


FLAG = st.booleans()
RATES = st.one_of(SIZES, st.floats(1e-3, 3))
BELOW_ONE = st.one_of(st.floats(0, 0.999), SIZES)
LAWS = st.sampled_from(["sign", "gaussian"])
PROBLEMS = {
    "Quadratic": (ss.Quadratic, {"hessian": operators(2), "example_noise_covariance": operators(2),
                                 "minimum": arrays((2,))}),
    "LinearRegression": (ss.LinearRegression, {
        "covariance": operators(2), "teacher": arrays((2,)), "label_noise": SIZES,
        "input_noise": st.one_of(st.none(), operators(2)), "weight_decay": st.one_of(SIGNED, operators(2, SIGNED))}),
    "DatasetRegression": (ss.DatasetRegression, {
        "features": arrays((3, 2)), "targets": arrays((3,)), "weight_decay": st.one_of(SIGNED, operators(2, SIGNED)),
        "label_noise": SIZES}),
    "TwoLayerLinear": (ss.TwoLayerLinear, {
        "teacher_inner": arrays((2, 1)), "teacher_outer": arrays((1, 2)), "label_noise": SIZES}),
    "DeepLinear": (ss.DeepLinear, {"teachers": st.lists(arrays((1, 1)), max_size=3), "label_noise": SIZES}),
    "DiagonalNetwork": (ss.DiagonalNetwork, {
        "features": arrays((2, 3)), "targets": arrays((2,)), "label_noise": SIZES, "noise": LAWS, "start": SIZES}),
    "DiagonalNetwork.random": (ss.DiagonalNetwork.random, {
        "dimension": st.integers(-1, 4), "examples": st.integers(-1, 4), "sparsity": st.integers(-1, 4),
        "seed": st.integers(-1, 3), "amplitudes": LAWS}),
    "MatrixFactorization": (ss.MatrixFactorization, {
        "measurements": arrays((2, 2, 2)), "targets": arrays((2,)), "label_noise": SIZES, "noise": LAWS,
        "depth": st.integers(-1, 3), "width": st.one_of(st.none(), st.integers(-1, 3))}),
    "MatrixFactorization.random": (ss.MatrixFactorization.random, {
        "size": st.integers(-1, 3), "rank": st.integers(-1, 3), "examples": st.integers(-1, 3),
        "seed": st.integers(-1, 3)}),
    "Ellipse": (ss.Ellipse, {"a": SIZES, "b": SIZES, "label_noise": SIZES, "noise": LAWS}),
}  # fmt: skip
ADAPTIVE = {"b1": BELOW_ONE, "b2": BELOW_ONE, "eps": SIZES, "eps_root": SIZES, "bias_correction": FLAG}
BLOCKS = st.sampled_from([[[0], [1]], [[0, 1]], [[1], [0]], [], [[0]], [[0, 0]]])
OPTIMIZERS = {
    "SGD": (ss.SGD, {"learning_rate": RATES, "momentum": BELOW_ONE,
                     "preconditioner": st.one_of(st.none(), operators(2), arrays((2, 2)))}),
    "Adam": (ss.Adam, {"learning_rate": RATES, **ADAPTIVE}),
    "RMSProp": (ss.RMSProp, {"learning_rate": RATES, "eps": SIZES, "eps_root": SIZES}),
    "AdamE": (ss.AdamE, {"learning_rate": RATES, "exponent": BELOW_ONE, **ADAPTIVE}),
    "AdamMini": (ss.AdamMini, {"learning_rate": RATES, "blocks": BLOCKS, **ADAPTIVE}),
    "DampedNewton": (ss.DampedNewton, {"learning_rate": RATES, "momentum": BELOW_ONE}),
    "NaturalGradient": (ss.NaturalGradient, {"learning_rate": RATES, "momentum": BELOW_ONE,
                                             "fisher": st.one_of(st.none(), operators(2)), "memory": BELOW_ONE}),
}  # fmt: skip
QUANTITIES = ("mean", "covariance", "noise_covariance", "train_loss", "test_loss")


def attempt(call):
    """What `call` returns; None where it refuses in the one way there is."""
    try:
        return quietly(call)
    except BeyondLimit as refused:
        assert np.isfinite(quietly(refused.setting.limit))
    except (NotImplementedError, ss.NotConverged) as missing:
        assert str(missing)
    except ValueError as refused:
        text = str(refused)
        assert " is " in text and ", but it must be " in text and len(text) < 600, f"not in our words: {text!r}"
    return None


def quietly(call):
    """The result of `call`; an overflow on the way is no failure while it does not reach the result."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return call()


def finite(*values):
    return all(np.isfinite(np.asarray(value, np.float64)).all() for value in values)


@pytest.mark.parametrize("wrong", [ValueError("shapes do not match"), TypeError("no"), OverflowError("too large")])
def test_the_hunt_catches_what_it_is_after(wrong):
    def fail():
        raise wrong

    with pytest.raises((AssertionError, type(wrong))):
        attempt(fail)


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_are_made_or_refused(name):
    make, fields = PROBLEMS[name]

    @QUICK
    @given(or_junk(**fields))
    def try_it(arguments):
        problem = attempt(lambda: make(**arguments))
        if problem is not None:
            assert repr(problem)
            assert finite(problem.default_start, problem.minimum)
            check_sampling(problem, 1, None)

    try_it()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_are_made_or_refused(name):
    make, fields = OPTIMIZERS[name]

    @QUICK
    @given(or_junk(**fields))
    def try_it(arguments):
        optimizer = attempt(lambda: make(**arguments))
        assert optimizer is None or repr(optimizer)

    try_it()


def made(kinds):
    """Objects that their constructors accept."""
    one = [st.fixed_dictionaries(fields).map(lambda a, make=make: attempt(lambda: make(**a))) for make, fields in kinds]
    return st.one_of(one).filter(lambda found: found is not None)


STATIONARY = made([PROBLEMS[name] for name in ("Quadratic", "LinearRegression", "DatasetRegression")])
NETWORKS = made([PROBLEMS[name] for name in ("TwoLayerLinear", "DeepLinear")])
MANY_MINIMA = made([PROBLEMS[name] for name in PROBLEMS if name.startswith(("Diag", "Matrix", "Ell"))])
ADAPTIVE_ONES = made([OPTIMIZERS[name] for name in ("Adam", "RMSProp", "AdamE", "AdamMini")])
LINEAR = made([OPTIMIZERS[name] for name in ("SGD", "DampedNewton", "NaturalGradient")])
SAMPLING = st.sampled_from([None, None, None, "online", "with_replacement", "without_replacement", "epochs", "x", 3])
BATCHES = st.one_of(st.integers(1, 4), st.sampled_from([0, 1.5, 10**9, 10**400, True, "2", None]))


@settings(QUICK, max_examples=250)
@given(STATIONARY, LINEAR, BATCHES, SAMPLING, st.sampled_from(["exact", "exact", "hessian", "continuous", "exat", 0]))
def test_predictions_are_finite_or_refused(problem, optimizer, batch_size, sampling, approximation):
    law = attempt(lambda: ss.predict(problem, optimizer, batch_size=batch_size, sampling=sampling,
                                     approximation=approximation))  # fmt: skip
    if law is not None:
        assert finite(*(getattr(law, name) for name in QUANTITIES)), law
        scale = np.abs(law.covariance).max()
        assert np.linalg.eigvalsh(law.covariance).min() >= -1e-9 * scale, law.covariance


@settings(QUICK, max_examples=100)
@given(st.one_of(st.tuples(STATIONARY, ADAPTIVE_ONES), st.tuples(NETWORKS, st.one_of(LINEAR, ADAPTIVE_ONES))),
       BATCHES, SAMPLING, st.sampled_from(["exact", "exact", "mean_field", "hessian"]))  # fmt: skip
def test_approximate_predictions_are_finite_or_refused(both, batch_size, sampling, approximation):
    law = attempt(lambda: ss.predict(*both, batch_size=batch_size, sampling=sampling, approximation=approximation))
    if law is not None:
        names = (*QUANTITIES, "product_mean", "product_covariance")
        found = [value for value in (getattr(law, name) for name in names) if value is not None]
        assert finite(*found) and (law.theory_error < 1 or law.out_of_regime), law


@settings(QUICK, max_examples=40)
@given(MANY_MINIMA, st.one_of(LINEAR, ADAPTIVE_ONES), BATCHES)
def test_where_there_is_no_stationary_law_prediction_says_so(problem, optimizer, batch_size):
    assert attempt(lambda: ss.predict(problem, optimizer, batch_size=batch_size)) is None


@settings(QUICK, max_examples=60)
@given(STATIONARY, LINEAR, BATCHES, SAMPLING)
def test_stability_is_a_number_or_refused(problem, optimizer, batch_size, sampling):
    found = attempt(lambda: ss.solver.stability(problem, optimizer, batch_size=batch_size, sampling=sampling))
    if found is not None:
        assert found.max_learning_rate >= 0 and found.deterministic >= 0 and isinstance(found.stable, bool | np.bool_)


RUN = {
    "chains": st.integers(-1, 100), "steps": st.integers(-1, 100), "burn_in": st.integers(-1, 100),
    "seed": st.integers(-1, 2**33), "statistics": st.sampled_from([None, (), [ss.statistics.Losses()]]),
    "initial": st.one_of(st.none(), arrays((2,))), "record": st.one_of(st.none(), st.integers(-1, 99)),
    "dtype": st.sampled_from([None, "float32", "float64", np.float32, "float16", "int32", "x", float]),
}  # fmt: skip


@settings(QUICK, max_examples=80)
@given(or_junk(sound=("statistics", "record"), **RUN))
def test_runs_are_configured_or_refused(arguments):
    problem = ss.LinearRegression([1.0, 0.5], label_noise=0.5)
    run = attempt(lambda: check_request(problem, ss.SGD(0.1), **arguments))
    assert run is None or (0 <= run.burn_in < run.steps and finite(run.initial))


@settings(QUICK, max_examples=40)
@given(JUNK, JUNK)
def test_nothing_else_passes_for_a_problem_or_an_optimizer(problem, optimizer):
    assert attempt(lambda: ss.predict(problem, ss.SGD(0.1), batch_size=1)) is None
    assert attempt(lambda: ss.simulate(problem, ss.SGD(0.1), batch_size=1, chains=64, steps=2)) is None
    good = ss.LinearRegression([1.0])
    assert attempt(lambda: ss.predict(good, optimizer, batch_size=1)) is None
    assert attempt(lambda: ss.simulate(good, optimizer, batch_size=1, chains=64, steps=2)) is None


# What a run can be like: compiled, so few; every point of a sweep shares one program.
EXTREME = [1e-30, 1e-3, 1.0, 30.0, 1e5, 1e20, 1e30]
RUNS = {
    "regression": (ss.LinearRegression([1.0, 0.5], label_noise=0.5), ss.SGD(0.1, momentum=0.9)),
    "scales apart": (ss.Quadratic([1e-20, 1e15], [1e-30, 1e18]), ss.SGD(0.1)),
}
SLOW_RUNS = {
    "network": (ss.TwoLayerLinear([[1.0], [2.0]], [[1.0, -1.0]], label_noise=0.3), ss.Adam(0.1)),
    "no noise": (ss.LinearRegression([1.0, 0.0]), ss.SGD(0.1)),
    "natural gradient": (ss.LinearRegression([1.0, 0.5], label_noise=0.5), ss.NaturalGradient(0.1)),
    "data": (ss.DatasetRegression([[1e8, 1e-8], [1e-8, 1.0]], [1e8, 1.0], label_noise=1.0),
             ss.AdamE(0.1, exponent=0.9)),
    "diagonal network": (ss.DiagonalNetwork([[1.0, 1e4]], [1e6]), ss.SGD(0.1)),
    "factorization": (ss.MatrixFactorization.random(2, 1, 2), ss.RMSProp(0.1)),
    "ellipse": (ss.Ellipse(2.0, 1e-3), ss.SGD(0.1)),
}  # fmt: skip


def check_runs(problem, optimizer):
    options = {"batch_size": [1, 3], "learning_rate": EXTREME, "chains": 64, "steps": 40, "burn_in": 10}
    grid = quietly(lambda: ss.sweep(problem, optimizer, **options))
    statuses = [result.status for result in grid.results]
    assert set(statuses) <= {"ok", "diverged"} and "ok" in statuses
    for result in grid.results:
        assert (result.status == "diverged") == (result.diverged > 0)
        if result.diverged < result.chains:  # those that stayed are measured: a covariance may overflow, but says so
            measured = (result.mean, result.covariance, result.train_loss, result.test_loss)
            assert not any(np.isnan(np.asarray(value)).any() for value in measured), (result, measured)


@pytest.mark.parametrize("name", RUNS)
def test_extreme_runs_have_a_status(name):
    check_runs(*RUNS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_RUNS)
def test_more_extreme_runs_have_a_status(name):
    check_runs(*SLOW_RUNS[name])


@pytest.mark.slow
@settings(QUICK, max_examples=2000)
@given(STATIONARY, LINEAR, st.integers(1, 4))
def test_many_more_predictions(problem, optimizer, batch_size):
    law = attempt(lambda: ss.predict(problem, optimizer, batch_size=batch_size))
    assert law is None or finite(*(getattr(law, name) for name in QUANTITIES)), law


@pytest.mark.slow
@settings(QUICK, max_examples=100)
@given(STATIONARY, LINEAR, st.integers(1, 4))
def test_what_is_said_past_the_limit(problem, optimizer, batch_size):
    try:
        quietly(lambda: ss.predict(problem, optimizer, batch_size=batch_size))
    except BeyondLimit as refused:
        text = quietly(refused.__str__)
        assert text.startswith("learning_rate is ") and ", but it must be below " in text and len(text) < 600
    except (ValueError, NotImplementedError):
        pass


# What the hunt found, each an exception of another kind or NaN before it was put right.
FOUND = {
    "log of a noise that underflows": (
        ss.DatasetRegression([[1e-160, 0.0], [-1e-160, -1.83], [-0.5, -0.164]], [0.459, 0.0, -0.504], 1e-12),
        ss.NaturalGradient(0.001)),
    "covariance of NaN": (
        ss.Quadratic([1.0, 0.0], [1e12, 1.0], [1.0, 1.0]),
        ss.SGD(1.0, preconditioner=[[2.2250738585e-313, 1.0], [1.0, 1.0]])),
    "singular on the way to the preconditioner": (
        ss.LinearRegression([1e12, 2.0], [1e12, 0.0], 1.0, [1e12, 0.1], 1.0),
        ss.RMSProp(0.1, b2=0.99, eps=2.0, eps_root=0.5)),
    "particles that all grow alike": (
        ss.DatasetRegression([[0.0, 0.0], [0.6, 1e-12], [1e12, 0.0]], [-1e-3, -1e12, -1e-3], 1e50, 2.0), ss.SGD(0.5)),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_stays_put_right(name):
    problem, optimizer = FOUND[name]
    try:
        law = quietly(lambda: ss.predict(problem, optimizer, batch_size=1))
    except ValueError as refused:
        assert ", but it must be " in quietly(refused.__str__)
    else:
        assert finite(*(getattr(law, quantity) for quantity in QUANTITIES))
