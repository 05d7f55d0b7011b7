"""A curve with theory beside it: verdicts that see three per cent, names of its arrays, its figure."""

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.comparisons.judge import judge
from sgdsim.experiments.framework.curve import Curve, Point, lines_of, points_of
from sgdsim.experiments.framework.findings import share

pytest.importorskip("matplotlib")
FINE = np.linspace(0.0, 2.0, 5)
TRUTH = np.array([1.0, 2.0, 4.0])


def curve(**more):
    return Curve(np.array([0.0, 1.0, 2.0]), TRUTH, 0.005 * TRUTH, FINE, {"exact": 2.0**FINE}, **more)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "agree"), (1.03, "disagree")])
def test_every_point_is_held_against_its_theory(factor, verdict):
    verdicts = curve(theory=factor * TRUTH).judge("power", "n = {:g}", error_rate=0.001)
    assert [v.setting for v in verdicts] == ["n = 0", "n = 1", "n = 2"]
    assert {v.row.verdict for v in verdicts} == {verdict}
    assert verdicts[2].row == judge("power", 4.0, 0.02, 4.0 * factor, error_rate=0.001)
    assert curve(theory=TRUTH).at([2, 0]).judge("power", "{:g}", error_rate=0.001)[0].setting == "2"


def test_its_arrays_have_names():
    data = curve().data("n", "power", "my_")
    assert list(data) == ["my_n", "my_power", "my_power_stderr", "my_line_n", "my_line_power"]
    assert data["my_power"][0] == ("my_n",) and data["my_line_power"][0] == ("my_line_n",)
    two = Curve(TRUTH, TRUTH, TRUTH, FINE, {"exact": FINE, "hessian": -FINE}).data("n", "power")
    assert {"line_exact", "line_hessian"} < set(two)
    percent = curve().scaled(100)
    np.testing.assert_allclose([percent.simulated, percent.stderr, percent.lines["exact"][:3]],
                               [100 * TRUTH, 0.5 * TRUTH, 100 * 2.0 ** FINE[:3]])
    assert lines_of({"a": percent})["a"][0] is FINE and points_of({"a": percent})["a"][1] is percent.simulated


def test_results_make_a_curve():
    problem, rates = ss.LinearRegression([1.0, 0.5], label_noise=0.5), [0.1, 0.2]
    runs = [ss.simulate(problem, ss.SGD(r), batch_size=4, chains=256, steps=80, burn_in=60, progress=False)
            for r in rates]
    laws = [ss.predict(problem, ss.SGD(r), batch_size=4) for r in rates]
    found = Curve.of("covariance", [Point(*point) for point in zip(rates, runs, laws, strict=True)], FINE, {})
    np.testing.assert_allclose(found.simulated, [np.trace(run.covariance) for run in runs])
    np.testing.assert_allclose(found.stderr, [np.hypot(*np.diag(run.covariance_stderr)) for run in runs])
    assert [v.setting for v in found.hold("λ={:g}")][:: len(found.hold("")) // 2] == ["λ=0.1", "λ=0.2"]
    figure = found.figure("two rates", xlabel="λ").draw()
    assert figure.axes[0].get_xlabel() == "λ" and len(figure.axes[0].containers) == 1


def test_comparisons_share_one_error_rate():
    assert 1 - (1 - share(7, 0.01)) ** 7 == pytest.approx(0.01)
