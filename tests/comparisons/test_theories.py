# ruff: noqa: PLW0108  (the names of parameters say what a function gets)
"""Theories of one's own, as mappings, alone and side by side."""

import dataclasses
import json

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.results import Quantity

PROBLEM, OPTIMIZER, B = ss.LinearRegression([1.0, 0.5], label_noise=0.5), ss.SGD(0.3), 8
LAW = ss.predict(PROBLEM, OPTIMIZER, batch_size=B)
C = LAW.covariance


@pytest.fixture(scope="module")
def result():
    return ss.simulate(PROBLEM, OPTIMIZER, batch_size=B, chains=4000, steps=400, burn_in=100, seed=1)


PARTS = {
    "mean": np.zeros(2),
    "covariance": C,
    "noise_covariance": LAW.noise_covariance,
    "variance": np.diag(C),
    "train_loss": LAW.train_loss,
    "test_loss": LAW.test_loss,
    "covariance[0,1]": 0.0,
    "covariance[-1,-1]": C[1, 1],
    "covariance[0:2,1:]": C[:, 1:],
    "noise_covariance[0,:]": LAW.noise_covariance[0],
    "mean[1]": 0.0,
    "trace(covariance)": np.trace(C),
    "eigenvalues(covariance)": np.diag(C),  # in any order
    "eigenvalues(covariance)[-1]": C[0, 0],
}


def test_every_part_of_what_was_measured_can_be_predicted(result):
    report = ss.compare(result, PARTS)
    assert report.agrees and report.approximation == "as given" and list(report.entries) == list(PARTS)
    assert [row.entries for row in report.rows] == [2, 3, 3, 2, 1, 1, 1, 1, 2, 2, 1, 1, 2, 1]
    shown = {row.quantity for row in report.rows}
    assert {"covariance[0,1]", "covariance[1,1]", "trace(covariance)", "mean[1]"} <= shown


def test_a_trace_and_eigenvalues_alone_are_those_of_the_covariance(result):
    short = ss.compare(result, {"trace": np.trace(C), "eigenvalues": np.diag(C), "eigenvalues[-1]": C[0, 0]})
    whole = ss.compare(result, {f"{name}(covariance){i}": PARTS[f"{name}(covariance){i}"]
                                for name, i in (("trace", ""), ("eigenvalues", ""), ("eigenvalues", "[-1]"))})
    assert [row[1:] for row in short.rows] == [row[1:] for row in whole.rows] and short.agrees


@pytest.mark.parametrize("name", [name for name in PARTS if np.any(PARTS[name])])
def test_three_percent_off_disagrees_and_only_there(result, name):
    report = ss.compare(result, {**PARTS, name: 1.03 * np.asarray(PARTS[name])})
    assert [key for key, row in zip(PARTS, report.rows, strict=True) if row.verdict == "disagree"] == [name]


def test_a_mapping_and_a_prediction_say_the_same(result):
    mine = {name: getattr(LAW, name) for name in ("mean", "covariance", "noise_covariance", "train_loss", "test_loss")}
    for row, same in zip(ss.compare(result, mine).rows, ss.compare(result, LAW).rows, strict=True):
        assert row[::6] == same[::6] and row[1:6] == pytest.approx(same[1:6], rel=1e-6)  # but for rounding's share


def test_an_asymmetric_matrix_is_judged_below_its_diagonal_too(result):
    wrong = C + np.array([[0, 0], [0.05 * C[0, 0], 0]])
    assert ss.compare(result, {"covariance": wrong}).rows[0].quantity == "covariance[1,0]"


@pytest.mark.parametrize(
    ("theory", "said"),
    [
        ({"covarianc": C}, r"'covarianc', but it must be one of what was measured: mean, cov.*did you mean 'covar"),
        ({"covariance": C[:1]}, r"theory\['covariance'\].*shape \(1, 2\)"),
        ({"covariance": C * 1j}, "real numbers"),
        ({"covariance": C * np.nan}, "finite"),
        ({"covariance[5,5]": 1.0}, r"within shape \(2, 2\)"),
        ({"covariance[a]": 1.0}, "whole numbers or ranges"),
        ({"det(covariance)": 1.0}, "'trace', 'eigenvalues'"),
        ({"trace(mean)": 1.0}, "of a square matrix"),
        ({"a": {"mean": [0, 0]}, "covariance": C}, r"theory\['covariance'\].*as the others are"),
        ({}, "from names of quantities"),
        ({0: C}, "from names of quantities"),
        ([C], "a Prediction, or a mapping"),
    ],
)
def test_what_is_not_measured_is_refused_by_name(result, theory, said):
    with pytest.raises(ValueError, match=said):
        ss.compare(result, theory)


def test_an_error_that_a_theory_grants_itself(result):
    wrong = {"covariance": 1.03 * C, "train_loss": LAW.train_loss * 1.001}
    assert [row.verdict for row in ss.compare(result, wrong).rows] == ["disagree", "disagree"]
    assert ss.compare(result, wrong, theory_error=0.04).agrees
    one = ss.compare(result, wrong, theory_error={"covariance": 0.04})
    assert [row.verdict for row in one.rows] == ["agree", "disagree"]
    with pytest.raises(ValueError, match="theory_error"):
        ss.compare(result, wrong, theory_error=-1)


def test_regime_and_reference(result):
    report = ss.compare(result, {"covariance": 2 * C}, regime="small rates only", reference="my thesis, eq. 3")
    assert report.rows[0].verdict == "out of regime" and report.rows[0].note == report.regime == "small rates only"
    assert "reference: my thesis, eq. 3" in report._repr_html_()
    assert report.table().count("small rates only") == 1


def test_derived_numbers_are_rows_like_all_others(result):
    derived = {"condition number": lambda covariance: np.linalg.cond(covariance)}
    truth = C[0, 0] / C[1, 1]
    assert ss.compare(result, LAW, derived=derived).rows[-1][:4:3] == pytest.approx(("condition number", truth))
    assert ss.compare(result, {"condition number": truth}, derived=derived).agrees
    assert ss.compare(result, {"covariance": C}, derived=derived).agrees
    assert ss.compare(result, {"condition number": 1.03 * truth}, derived=derived).disagrees
    with pytest.raises(ValueError, match=r"condition number.*give it a value.*covariance"):
        ss.compare(result, {"mean": [0, 0]}, derived=derived)


def test_theories_side_by_side(result):
    continuous = ss.predict(PROBLEM, OPTIMIZER, batch_size=B, approximation="continuous")
    mine = {"covariance": C, "trace(covariance)": 1.05 * np.trace(C)}
    report = ss.compare(result, {"mine": mine, "exact": LAW, "continuous": continuous})
    assert report.agree == ["exact"] and report.disagree == ["mine", "continuous"] and len(report) == 3
    assert [row.verdict for row in report["mine"].rows] == ["agree", "disagree"]
    assert "trace(covariance)" in report["exact"].entries  # what one speaks of, the others are asked too
    apart = report.apart
    row = report["exact"].rows[1]
    far = (C - continuous.covariance)[0, 0] / (row.threshold * result.covariance_stderr[0, 0])
    assert apart["mine", "exact"]["covariance"] == 0 and apart["exact", "continuous"]["covariance"] >= 0.99 * far > 1
    lines = report.table().splitlines()
    assert lines[0].split() == ["quantity", "mine", "exact", "continuous"] and "disagree: -4." in lines[3]
    assert sum("are apart by" in line for line in lines) == 3
    assert json.loads(json.dumps(report.to_dict()))["exact"]["agrees"] is True
    assert "tabular" in report.to_latex() and "continuous" in report._repr_html_() and "| - |" in report.to_markdown()


def test_side_by_side_as_a_dataframe(result):
    pytest.importorskip("pandas")
    frame = ss.compare(result, {"mine": {"covariance": C}, "exact": LAW}).to_dataframe()
    assert frame["theory"].tolist() == ["mine"] + 5 * ["exact"]


def test_several_theories_share_the_error_rate(result):
    zero = {"mean": [0, 0]}
    alone, two = ss.compare(result, zero), ss.compare(result, {"a": zero, "b": zero})
    assert two["a"].rows[0].threshold > alone.rows[0].threshold


def test_quantities_of_a_statistic_of_ones_own(result):
    more = {**result.quantities, "loss_spread": Quantity(np.array([2.0, 0.0]), np.array([0.01, 0.01]))}
    mine = dataclasses.replace(result, quantities=more)
    assert ss.compare(mine, {"loss_spread": [2.0, 0.0]}).agrees
    assert ss.compare(mine, {"loss_spread[0]": 2.1}).disagrees
    assert ss.compare(mine, {"loss_spread": [2.0, 0.1]}).disagrees


def test_variance_of_a_run_that_measured_no_covariance():
    run = ss.simulate(PROBLEM, OPTIMIZER, batch_size=B, chains=500, steps=300, burn_in=100,
                      statistics=[ss.statistics.Moments(full=False)])
    assert ss.compare(run, {"variance": np.diag(C)}).agrees
    assert ss.compare(run, {"variance[0]": C[0, 0]}).agrees
    with pytest.raises(ValueError, match=r"'covariance'.*what was measured: mean, variance"):
        ss.compare(run, {"covariance": C})
