import json

import numpy as np
import pytest

from sgdsim import _checks
from sgdsim.comparisons.comparison import Row
from sgdsim.comparisons.judge import judge
from sgdsim.experiments import build_report, experiment, list_experiments, run
from sgdsim.experiments.framework import registry
from sgdsim.experiments.framework.findings import SCALES, Figure, Findings, Table, Verdict
from sgdsim.experiments.framework.load_table import load
from sgdsim.experiments.framework.measure import settling_steps
from sgdsim.experiments.framework.report import to_row
from sgdsim.experiments.framework.write import plain, write
from sgdsim.experiments.minibatch_noise.decay import optimum_by_closed_form, predicted_test_loss, stable_interval
from sgdsim.plots import curve, panels
from sgdsim.workflows import analyze

pd = pytest.importorskip("pandas")
PUBLISHED = {"fig3_left", "fig3_right", "fig4a", "fig4bc", "fig5", "table2"}
NASTY = "<script>alert('x')</script>"


def draw():
    figure, ax = panels(1, 1, (3, 2))
    curve({"exact": ([0, 1], [0, 1])}, ax=ax[0, 0])
    return figure


def findings(verdicts=()):
    return Findings(
        verdicts=list(verdicts) or [Verdict("b=1", judge("x", 1.0, 0.01, 1.0))],
        data={"x": (("x",), np.arange(3.0)), "y": (("x",), np.array([1.0, np.nan, 2.0]))},
        figures=[Figure("figure", f"caption {NASTY}", draw)],
        summary=[f"summary {NASTY}"],
        tables=[Table(f"title {NASTY}", ["quantity", "value"], [[NASTY, "1"]])],
        provenance={"problem": NASTY},
    )


def test_every_published_experiment_is_listed():
    found = {e.id: e for e in list_experiments()}
    assert set(found) >= PUBLISHED
    assert all(e.title and e.reference and e.function.__doc__ for e in found.values())
    assert list(SCALES) == ["smoke", "laptop", "full"]


@pytest.mark.parametrize("name", ["fig4", "tabel2", "", "fig4a "])
def test_unknown_experiment(name):
    with pytest.raises(ValueError, match="experiment"):
        run(name)


def test_unknown_scale():
    with pytest.raises(ValueError, match="smoke"):
        run("fig4a", "smok")


def test_registering_and_running(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_REGISTRY", {})

    @experiment("toy", "A toy", "nowhere")
    def toy(scale):
        """Do nothing."""
        return findings()

    with pytest.raises(ValueError, match="another experiment"):
        experiment("toy", "again", "nowhere")(lambda scale: findings())
    assert run("toy", output=tmp_path).disagrees is False
    assert {p.name for p in (tmp_path / "toy").iterdir()} == {"figure.png", "data.json", "data.nc", "section.json"}
    assert "A toy" in (tmp_path / "report.html").read_text()


def test_files_hold_the_data(tmp_path):
    xr = pytest.importorskip("xarray")
    write(findings(), tmp_path / "a", id="a", title="t", reference="r", scale="smoke", seconds=1.0)
    content = json.loads((tmp_path / "a" / "data.json").read_text())
    assert content["data"]["y"] == {"dims": ["x"], "values": [1.0, None, 2.0]}
    assert content["verdicts"][0]["verdict"] == "agree"
    with xr.open_dataset(tmp_path / "a" / "data.nc", engine="h5netcdf") as data:
        np.testing.assert_array_equal(data["y"], [1.0, np.nan, 2.0])
        assert data.attrs["id"] == "a"


def test_report_escapes_and_needs_no_other_file(tmp_path):
    bad = Row(NASTY, 1.0, 0.0, 1.0, float("inf"), 0.0, "disagree", 3.0, 1, NASTY)
    write(findings([Verdict(NASTY, bad)]), tmp_path / "a", id="a", title=NASTY, reference=NASTY, scale="-", seconds=1)
    page = build_report(tmp_path).read_text()
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "http" not in page and page.count("data:image/png;base64,") == 1
    assert "✗ disagree" in page


def test_an_empty_output_still_makes_a_report(tmp_path):
    assert "none yet" in build_report(tmp_path).read_text()


def test_rows_survive_json():
    row = judge("x", 1.0, 0.0, 2.0)
    again = to_row(json.loads(json.dumps(plain(row._asdict()))))
    assert again.quantity == "x" and np.isnan(again.z)


def test_negative_optimum_of_figure_5():
    best = optimum_by_closed_form(4.0, 1.0, 64)
    assert best == pytest.approx(-2.53, abs=5e-3)
    low, high = stable_interval(4.0, 1.0, 64)
    assert low < best < high < 0
    here = predicted_test_loss(4.0, 1.0, 64, best)
    assert all(predicted_test_loss(4.0, 1.0, 64, best + d) > here for d in (-0.01, 0.01))
    assert predicted_test_loss(4.0, 1.0, 64, high + 0.01) == np.inf


def test_settling_takes_as_long_as_the_slowest():
    class Law:
        def __init__(self, radius):
            self.spectral_radius = radius

    assert settling_steps(Law(0.0)) == 50
    assert settling_steps(Law(0.5), Law(0.99)) == int(np.ceil(np.log(1e-4) / np.log(0.99)))


def table(n=60, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 2))
    return pd.DataFrame({NASTY: x[:, 0], "b": x[:, 1], "y": x @ [1.0, -1.0] + rng.standard_normal(n)})


def test_analyze_a_small_table(tmp_path):
    found = analyze(table(), "y", batch_sizes=[2, 8], learning_rates=[0.05, 5.0], output=tmp_path)
    assert not found.disagrees
    assert {v.row.quantity.split("[")[0] for v in found.verdicts} == {
        "gradient variance", "mean", "covariance", "noise_covariance", "train_loss", "test_loss",
        "gradient", "full_gradient", "loss",
    }  # fmt: skip
    text = " ".join(found.summary)
    assert "standardised" in text and "an intercept was added" in text and "λ=5 at b=2" in text
    assert "<script" not in (tmp_path / "report.html").read_text()
    assert (tmp_path / "analyze-table" / "figure.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"batch_sizes": [0]}, "batch_sizes"),
        ({"batch_sizes": [4, 4]}, "distinct"),
        ({"batch_sizes": []}, "one or more"),
        ({"learning_rates": [-1.0]}, "learning_rates"),
        ({"target": "z"}, "target"),
        ({"target": None}, "pass --target"),
    ],
)
def test_bad_requests(options, why):
    with pytest.raises(ValueError, match=why):
        analyze(**{"table": table(), "target": "y", **options})


def test_diabetes_has_its_target():
    pytest.importorskip("sklearn")
    frame, target, name = load("diabetes", None)
    assert (len(frame), target, name) == (442, "target", "diabetes")


def test_checks_style():
    assert isinstance(_checks.error("a", 1, "b", "c"), ValueError)
