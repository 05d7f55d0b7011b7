"""A theory held against every point of a sweep."""

import dataclasses
import functools
import json
import re

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.comparisons.comparison import AGREE, DISAGREE, OUT, Comparison, Row
from sgdsim.comparisons.sweep_comparison import Point, SweepComparison

PROBLEM = ss.LinearRegression([1.0, 0.5], label_noise=0.5)
SIZES, RATES = [8, 32], [0.05, 0.2, 0.6]
TRACE = "trace(covariance)"


@pytest.fixture(scope="module")
def grid():
    return ss.sweep(PROBLEM, ss.SGD(0.1), batch_size=SIZES, learning_rate=RATES, chains=2000, steps=500, burn_in=200)


def exact(learning_rate, batch_size):
    return np.trace(ss.predict(PROBLEM, ss.SGD(learning_rate), batch_size=batch_size).covariance)


def test_predict_itself_agrees(grid):
    report = ss.compare(grid, ss.predict)
    assert report.agrees and len(report.rows) == 30 and (report.verdicts == AGREE).all()
    assert report.limits[8] == ss.predict(PROBLEM, ss.SGD(0.1), batch_size=8).max_learning_rate
    wrong = ss.compare(grid, functools.partial(ss.predict, approximation="continuous"))
    assert wrong.disagrees and wrong.verdicts[0, 2] == DISAGREE


def test_a_function_a_mapping_and_predict_are_the_same_theory(grid):
    values = [[exact(rate, b) for rate in RATES] for b in SIZES]
    reports = [ss.compare(grid, lambda batch_size, learning_rate: {TRACE: exact(learning_rate, batch_size)}),
               ss.compare(grid, {TRACE: values})]  # fmt: skip
    assert reports[0].rows == reports[1].rows and reports[0].agrees and len(reports[0].rows) == 6
    assert ss.compare(grid, {TRACE: 1.04 * np.array(values)}).disagrees


def test_where_disagreement_begins_along_each_axis(grid):
    report = ss.compare(grid, lambda learning_rate, batch_size: {
        TRACE: exact(learning_rate, batch_size) * (1.2 if learning_rate > 0.1 and batch_size < 10 else 1)})  # fmt: skip
    assert report.along("learning_rate").startswith("agrees up to learning_rate 0.05, off by 1")
    assert report.along("learning_rate").endswith(f"({TRACE}, batch_size 8) at 0.2")
    assert report.along("batch_size").startswith("agrees from batch_size 32 on, off by 1")
    assert report.along("learning_rate") in report.table() and report.table().count("disagree\n") == 2
    off = float(re.search(r"off by (\d+) %", report.along("learning_rate"))[1])
    assert off == pytest.approx(100 * (1 - 1 / 1.2), abs=1.5)
    everywhere = ss.compare(grid, lambda learning_rate: {TRACE: 9.0 * learning_rate})
    assert "disagrees at every learning_rate" in everywhere.along("learning_rate")
    assert "no disagreement" in ss.compare(grid, {"mean": np.zeros((2, 3, 2))}, regime="x").along("batch_size")


def test_maps(grid):
    report = ss.compare(grid, {TRACE: [[exact(rate, b) * (1 + rate / 4) for rate in RATES] for b in SIZES]})
    off = report.map("relative_error", TRACE)
    np.testing.assert_allclose(off, np.tile(1 / (1 + np.array(RATES) / 4) - 1, (2, 1)), atol=0.02)
    assert report.map().shape == (2, 3) and (report.map()[:, 2] < -5).all()
    assert (report.good_to(0.5) == 1).all() and (report.good_to(0.1)[:, 2] == 0).all()
    assert np.isnan(ss.compare(grid, {TRACE: np.ones((2, 3))}, regime="x").good_to(0.1)).all()


def test_points_without_theory_are_out_of_regime():
    grid = ss.sweep(PROBLEM, ss.SGD(0.1), batch_size=2, learning_rate=[0.1, 1.2], chains=256, steps=100, burn_in=50)
    for theory in (ss.predict, lambda learning_rate: ss.predict(PROBLEM, ss.SGD(learning_rate), batch_size=2)):
        report = ss.compare(grid, theory)
        assert report.verdicts[0, 1] == OUT and np.isnan(report.map()[0, 1]) and not report.agrees
        assert "stability limit" in report.table() and "no theory at 1" in repr(report)


def test_one_error_rate_for_all_points_and_quantities(grid):
    one = ss.compare(grid.sel(batch_size=8, learning_rate=0.05), {TRACE: 1.0}, error_rate=0.01).rows[0].threshold
    assert ss.compare(grid, {TRACE: np.ones((2, 3))}, error_rate=0.01).rows[0].threshold > one
    rate = 1 - (1 - 0.01) ** (1 / 6)
    alone = ss.compare(grid.sel(batch_size=8, learning_rate=0.05), {TRACE: 1.0}, error_rate=rate).rows[0].threshold
    assert ss.compare(grid, {TRACE: np.ones((2, 3))}, error_rate=0.01).rows[0].threshold == pytest.approx(alone)


def test_exports(grid):
    report = ss.compare(grid, lambda learning_rate, batch_size: {TRACE: 1.3 * exact(learning_rate, batch_size)})
    assert json.loads(json.dumps(report.to_dict()))["points"][0]["at"] == {"batch_size": 8, "learning_rate": 0.05}
    assert "\\begin{tabular}" in report.to_latex() and "<strong>disagree</strong>" in report._repr_html_()
    frame = pytest.importorskip("pandas") and report.to_dataframe()
    assert frame.columns.tolist()[:3] == ["batch_size", "learning_rate", "quantity"] and len(frame) == 6


@pytest.mark.parametrize(
    ("theory", "said"),
    [
        (lambda rate: {}, "a function of rate.*one of learning_rate, batch_size"),
        (lambda learning_rate: 3.0, "theory's value.*Prediction"),
        ({TRACE: np.ones(3)}, r"of shape \(3,\).*\(2, 3\)"),
        (lambda learning_rate: {"nothing": 1.0}, "one of what was measured"),
        ({"mine": lambda learning_rate: {}}, "one theory at a time"),
    ],
)
def test_refusals(grid, theory, said):
    with pytest.raises(ValueError, match=said):
        ss.compare(grid, theory)


def test_a_sweep_from_a_file_knows_no_problem(grid, tmp_path):
    again = ss.load(grid.save(tmp_path / "grid.nc"))
    with pytest.raises(ValueError, match="a function of the axes, for a sweep from a file"):
        ss.compare(again, ss.predict)
    assert ss.compare(again, lambda learning_rate, batch_size: {TRACE: exact(learning_rate, batch_size)}).agrees


def test_a_walk_side_by_side():
    run = {"chains": 1000, "steps": 400, "burn_in": 200}
    walk = ss.sweep(PROBLEM, ss.SGD(0.1), batch_size=[4, 8], learning_rate=[0.05, 0.1], zip=True, **run)
    assert ss.compare(walk, ss.predict).agrees
    assert ss.compare(walk, lambda learning_rate, batch_size: {TRACE: exact(learning_rate, batch_size)}).agrees


def test_the_worst_rows_come_first():
    def row(z, verdict):
        return Row("x", 1.0, 0.1, 1.0, z, 0.1, verdict, 3.0, 1)

    def point(rate, *rows):
        return Point({"learning_rate": rate}, Comparison(list(rows), {}, 0.01, "", "", ""), {}, "")

    points = [point(0.1 * i, row(float(i), AGREE)) for i in range(12)] + [point(5.0, row(4.0, DISAGREE))]
    lines = SweepComparison({"learning_rate": [p.at["learning_rate"] for p in points]}, points, 0.01, dict).table()
    assert lines.splitlines()[2].startswith("5 ") and "+11.00" in lines.splitlines()[3]
    assert "the 8 worst of 13 rows are shown" in lines


def test_maps_are_drawn(grid):
    pytest.importorskip("matplotlib")
    from sgdsim.plots import sweep_maps

    report = ss.compare(grid, ss.predict)
    figure = sweep_maps(report, quantity="covariance")
    assert [ax.get_xlabel() for ax in figure.axes[:2]] == 2 * ["learning rate"]
    assert figure.axes[0].lines[0].get_label() == "stability limit"
    shown = figure.axes[1].collections[0].get_array().reshape(2, 3)
    np.testing.assert_allclose(shown, 100 * report.map("relative_error", "covariance"))
    turned = sweep_maps(report, x="batch_size")
    assert turned.axes[0].get_ylabel() == "learning rate" and not turned.axes[0].lines
    with pytest.raises(ValueError, match="two axes"):
        sweep_maps(dataclasses.replace(report, axes={"learning_rate": RATES}))
