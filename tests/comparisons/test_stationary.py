import dataclasses
import json

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.comparisons.comparison import AGREE, DISAGREE, OUT, UNDERPOWERED, sidak_threshold
from sgdsim.comparisons.judge import judge
from sgdsim.comparisons.stationary import compare
from sgdsim.results.result import Quantity, Result
from sgdsim.solver.prediction import Prediction

CONFIGURATION = {"problem": "p", "optimizer": "o", "batch_size": 8, "sampling": "online"}


def make_prediction(dimension=2, **changes):
    sigma = np.eye(dimension) + 0.3 * (np.ones((dimension, dimension)) - np.eye(dimension))
    values = dict(
        mean=np.ones(dimension),
        covariance=sigma,
        noise_covariance=2 * sigma,
        train_loss=1.5,
        test_loss=0.5,
        max_learning_rate=1.0,
        spectral_radius=0.5,
        approximation="exact",
        regime="",
        reference="[3]",
        configuration=CONFIGURATION,
    )
    return Prediction(**{**values, **changes})


def make_result(prediction=None, stderr=1e-3, rng=None, groups=64, **changes):
    """Numbers scattered around a prediction as group means scatter: Student-t over `groups`."""
    prediction = prediction or make_prediction()
    values = {}
    for name in ("mean", "covariance", "noise_covariance", "train_loss", "test_loss"):
        exact = np.asarray(getattr(prediction, name))
        if rng is None:
            values[name] = exact, np.full(exact.shape, stderr)
        else:
            draws = exact + stderr * np.sqrt(groups) * rng.standard_normal((groups, *exact.shape))
            if exact.ndim == 2:
                draws = (draws + draws.transpose(0, 2, 1)) / np.sqrt(2) + (1 - np.sqrt(2)) * exact
            values[name] = draws.mean(axis=0), draws.std(axis=0, ddof=1) / np.sqrt(groups)
    dimension = len(prediction.mean)
    values["kurtosis"] = np.full(dimension, 3.0), np.full(dimension, 0.01)
    fields = dict(
        tail=None,
        ess=None,
        rhat=np.ones(dimension),
        chains=1000,
        diverged=0,
        status="ok",
        record=None,
        final=None,
        snapshots=None,
        provenance={**CONFIGURATION, "groups": groups, "dtype": "float32"},
    )
    values |= {name: changes.pop(name) for name in values if name in changes}
    quantities = {name: Quantity(*pair) for name, pair in values.items() if pair is not None}
    return Result(**{"quantities": quantities, **fields, **changes})


def verdicts(result, prediction):
    return {row.verdict for row in compare(result, prediction).rows}


def test_a_right_prediction_agrees():
    report = compare(make_result(rng=np.random.default_rng(0)), make_prediction())
    assert report.agrees and not report.disagrees
    assert [row.entries for row in report.rows] == [2, 3, 3, 1, 1]
    assert report.entries["covariance"].shape == (2, 2)


@pytest.mark.parametrize("quantity", ["mean", "covariance", "noise_covariance", "train_loss", "test_loss"])
def test_three_percent_off_disagrees(quantity):
    prediction = make_prediction()
    wrong = dataclasses.replace(prediction, **{quantity: 1.03 * getattr(prediction, quantity)})
    report = compare(make_result(prediction, rng=np.random.default_rng(1)), wrong)
    bad = [row for row in report.rows if row.verdict == DISAGREE]
    assert [row.quantity.split("[")[0] for row in bad] == [quantity]
    assert report.disagrees and not report.agrees


def test_one_wrong_entry_is_found_and_named():
    prediction = make_prediction(3)
    sigma = prediction.covariance.copy()
    sigma[0, 2] = sigma[2, 0] = 0.35
    report = compare(make_result(prediction), dataclasses.replace(prediction, covariance=sigma))
    row = report.rows[1]
    assert (row.quantity, row.verdict) == ("covariance[0,2]", DISAGREE)
    assert row.z == pytest.approx(-50, rel=1e-3) and row.relative_error == pytest.approx(-0.05)


@pytest.mark.parametrize(
    "changes",
    [
        {"stderr": 0.3},
        {"stderr": np.nan},
        {"stderr": np.inf},
        {"groups": 7},
    ],
)
def test_underpowered(changes):
    assert verdicts(make_result(**changes), make_prediction()) == {UNDERPOWERED}


def test_heavy_tails_are_underpowered_except_for_the_mean():
    report = compare(make_result(kurtosis=(np.full(2, 3.0), np.array([0.01, 5.0]))), make_prediction())
    assert [row.verdict for row in report.rows] == [AGREE] + 4 * [UNDERPOWERED]
    assert "heavy tails" in report.table()


def index(value, stderr):
    return {"tail_index": ss.TailIndex(value, stderr, value - 2 * stderr, value + 2 * stderr)}


def kept_tail(index, n=4_000):
    """The exact quantiles of a power law, as a run keeps them: 64 groups, the largest of a million."""
    return dict(
        tail=((np.arange(n) + 0.5) / 1e6) ** (-1 / index), tail_group=np.arange(n) % 64, tail_seen=1e6,
        kurtosis=(np.array([3.0, 9.0]), np.array([0.01, 0.3])),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kurtosis", "theory", "measured", "verdict"),
    [
        (9.0, index(3.9, 0.0), 6.0, UNDERPOWERED),
        (9.0, index(4.2, 0.2), 6.0, UNDERPOWERED),  # 2 standard errors reach below 4
        (9.0, index(4.2, 0.0), 6.0, AGREE),
        (9.0, index(np.inf, 0.0), 6.0, AGREE),
        (9.0, index(9.0, 0.0), 3.0, UNDERPOWERED),  # the run's own tail is heavy
        (9.0, index(3.0, 0.0), 9.0, AGREE),  # far above 4: theory is not asked
        (9.0, {}, 3.0, UNDERPOWERED),
        (9.0, {"tail_index": ss.TailIndex.between(2.0, np.inf)}, 3.0, UNDERPOWERED),
        (9.0, {}, 6.0, AGREE),
        (3.9, index(3.0, 0.0), 3.0, AGREE),  # light: the index is not even asked for
    ],
)
def test_a_fourth_moment_must_exist(kurtosis, theory, measured, verdict):
    result = make_result(**{**kept_tail(measured), "kurtosis": (np.array([3.0, kurtosis]), np.array([0.01, 0.3]))})
    report = compare(result, make_prediction(**theory))
    assert [row.verdict for row in report.rows] == [AGREE] + 4 * [verdict]
    assert ("tail index is" in report.table()) == (verdict == UNDERPOWERED)


def test_light_tails_never_compute_the_tail_index():
    def refuse():
        raise AssertionError("asked for")

    prediction = make_prediction(tail_index=refuse)
    assert verdicts(make_result(prediction), prediction) == {AGREE}


def test_too_few_deviations_decide_nothing():
    short = {name: value[:150] if np.ndim(value) else value for name, value in kept_tail(3.0).items()}
    assert verdicts(make_result(**short), make_prediction()) == {AGREE}


def test_an_underpowered_run_does_not_disagree():
    wrong = dataclasses.replace(make_prediction(), train_loss=9.0)
    assert verdicts(make_result(stderr=2.0), wrong) == {UNDERPOWERED}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"diverged": 3, "status": "diverged"}, "3 of 1000 chains diverged"),
        ({"status": "interrupted"}, "interrupted"),
        ({"rhat": np.array([1.0, 1.06])}, "R-hat is 1.060"),
        ({"provenance": {**CONFIGURATION, "batch_size": 9}}, "batch_size: 9 against 8"),
        ({"provenance": {**CONFIGURATION, "optimizer": "Adam"}}, "optimizer"),
    ],
)
def test_out_of_regime(changes, why):
    report = compare(make_result(**changes), make_prediction())
    assert {row.verdict for row in report.rows} == {OUT}
    assert why in report.regime and not report.agrees


def test_a_note_says_what_differs_and_says_it_once():
    """Long descriptions that begin alike were cut before they differ: the same text stood there twice."""
    wide, other = (ss.LinearRegression(np.ones(9), np.zeros(9), label_noise=noise) for noise in (0.5, 0.75))
    law = ss.predict(other, ss.SGD(0.1), batch_size=8)
    result = make_result(make_prediction(9), provenance={**CONFIGURATION, **law.configuration, "problem": repr(wide)})
    said = compare(result, law).table()
    assert said.count("note:") == 1 and "differ in problem: ...label_noise=0.5" in said and "label_noise=0.75" in said


def test_exact_zeros_agree_within_rounding():
    zero = np.zeros((2, 2))
    prediction = make_prediction(covariance=zero, noise_covariance=zero, test_loss=0.0)
    result = make_result(prediction, stderr=0.0)
    assert verdicts(result, prediction) == {AGREE}
    exact = np.zeros(2)
    rounded = make_result(prediction, 0.0, mean=(result.mean * (1 + 3e-7), exact), test_loss=(1e-13, 0.0),
                          train_loss=(1.5 + 2e-7, 0.0))  # fmt: skip
    assert verdicts(rounded, prediction) == {AGREE}
    off = make_result(prediction, 0.0, test_loss=(1e-3, 0.0))
    assert compare(off, prediction).rows[-1].verdict == DISAGREE
    no_noise = make_result(prediction, 0.0, mean=(result.mean + 1e-3, exact))
    assert compare(no_noise, prediction).rows[0].verdict == DISAGREE


@pytest.mark.parametrize("dimension", [1, 10])
def test_false_alarms_are_as_rare_as_promised(dimension):
    prediction = make_prediction(dimension)
    rng = np.random.default_rng(dimension)
    runs = 600
    alarms = sum(compare(make_result(prediction, rng=rng), prediction, error_rate=0.1).disagrees for _ in range(runs))
    assert abs(alarms / runs - 0.1) < 4 * np.sqrt(0.09 / runs)


def test_threshold():
    assert sidak_threshold(0.05, 1, 10**6) == pytest.approx(1.95996, rel=1e-4)
    assert sidak_threshold(0.05, 55, 63) > sidak_threshold(0.05, 1, 63) > 1.96
    assert sidak_threshold(0.05, 1, 0) == np.inf


def test_judge():
    assert judge("x", 1.0, 0.01, 1.01).verdict == AGREE
    assert judge("x", 1.0, 0.001, 1.01).verdict == DISAGREE
    assert judge("x", 1.0, 0.5, 1.01).verdict == UNDERPOWERED
    assert judge("x", 1.0, 0.01, 1.01, note="heavy tails").verdict == UNDERPOWERED


def test_a_missing_quantity_is_left_out():
    report = compare(make_result(noise_covariance=None), make_prediction())
    assert [row.quantity.split("[")[0] for row in report.rows] == ["mean", "covariance", "train_loss", "test_loss"]


def test_printing():
    report = compare(make_result(rng=np.random.default_rng(3)), make_prediction())
    lines = report.table().splitlines()
    assert lines[0].split()[:2] == ["quantity", "simulated"] and len(lines) == 7
    assert len(report.to_markdown().splitlines()) == 7
    assert "5 agree" in repr(report)
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content["agrees"] is True and len(content["rows"]) == 5


@pytest.mark.parametrize("rate", [0, 1, -0.1, float("nan"), "x"])
def test_bad_error_rate(rate):
    with pytest.raises(ValueError, match="error_rate"):
        compare(make_result(), make_prediction(), error_rate=rate)


def test_other_dimension():
    with pytest.raises(ValueError, match="shape"):
        compare(make_result(), make_prediction(3))


HARD = {  # problems whose fluctuation single precision cannot tell from rounding of the minimum
    "data far from the origin": (ss.DatasetRegression(np.sqrt(2) * np.eye(2), np.sqrt(2) * np.array([100.0, -70.0]),
                                                      label_noise=1e-3), 1.0, 2, "without_replacement"),
    "a large teacher": (ss.LinearRegression([1.0, 0.5], [1e4, 1e4], label_noise=0.5), 0.3, 8, None),
    "little noise": (ss.LinearRegression([1.0, 0.5], [1e3, -1e3], label_noise=1e-3), 0.3, 8, None),
}  # fmt: skip


@pytest.mark.parametrize("name", HARD)
def test_a_wrong_theory_is_never_agreed_with_where_rounding_hides_the_answer(name):
    problem, rate, b, sampling = HARD[name]
    how = {"batch_size": b, "sampling": sampling}
    right = ss.predict(problem, ss.SGD(rate), **how)
    wrong = dataclasses.replace(right, covariance=1.3 * right.covariance)
    run = {"chains": 512, "steps": 150, "burn_in": 50, "initial": problem.minimum, **how}
    single = ss.simulate(problem, ss.SGD(rate), **run)
    for theory in (right, wrong):
        [row] = [row for row in compare(single, theory).rows if row.quantity.startswith("covariance")]
        assert row.verdict == "underpowered" and "float32" in row.note and "dtype='float64'" in row.note
    double = ss.simulate(problem, ss.SGD(rate), **run, dtype="float64")
    found = {theory is right: [row.verdict for row in compare(double, theory).rows if "covariance[" in row.quantity
                               and not row.quantity.startswith("noise")] for theory in (right, wrong)}
    assert found == {True: ["agree"], False: ["disagree"]}


@pytest.mark.slow
def test_a_slow_direction_that_has_not_settled_is_no_disagreement():
    problem = ss.LinearRegression([1.0, 0.003], label_noise=0.5)
    theory = ss.predict(problem, ss.SGD(0.2), batch_size=8)
    result = ss.simulate(problem, ss.SGD(0.2), batch_size=8, chains=2000, steps=1000, burn_in=500)
    [row] = [row for row in compare(result, theory).rows if row.quantity.startswith("covariance")]
    assert row.verdict == "out of regime" and "not settled" in row.note and "burn_in=" in row.note
    settled = ss.simulate(problem, ss.SGD(0.2), batch_size=8, chains=2000, steps=8000, burn_in=7000)
    assert {row.verdict for row in compare(settled, theory).rows} <= {"agree", "underpowered"}
    wrong = dataclasses.replace(theory, covariance=1.3 * theory.covariance)
    [row] = [row for row in compare(settled, wrong).rows if row.quantity.startswith("covariance")]
    assert row.verdict == "disagree"
