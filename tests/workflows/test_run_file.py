"""`sgdsim run FILE`: what a file can say, what comes out, and what a mistake in it is called."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("typer")
pytest.importorskip("h5netcdf")

from typer.testing import CliRunner

import sgdsim as ss
from sgdsim.cli import app as cli
from sgdsim.workflows.run_example import EXAMPLE
from sgdsim.workflows.run_file import run_file
from sgdsim.workflows.run_sections import OPTIMIZERS, PROBLEMS, RUNS
from sgdsim.workflows.toml import line_of

ROOT = Path(__file__).resolve().parents[2]
SMALL = EXAMPLE.replace("10_000", "640").replace("2_000", "300").replace("burn_in = 500", "burn_in = 50")


@pytest.fixture(autouse=True)
def leave_the_devices_alone(monkeypatch):
    monkeypatch.setattr("sgdsim.use_all_cores", lambda: 1)


def call(*arguments):
    return CliRunner().invoke(cli.app, ["run", *map(str, arguments)])


def test_the_example_runs_and_is_written(tmp_path):
    """The file of the documentation, with fewer and shorter chains."""
    printed = call("--example")
    assert printed.exit_code == 0 and printed.stdout == EXAMPLE
    assert json.loads(call("--example", "--json").stdout) == {"example": EXAMPLE}
    file = tmp_path / "experiment.toml"
    file.write_text(SMALL, encoding="utf-8")
    answer = call(file, "--json")
    assert answer.exit_code == 0, answer.output
    said = json.loads(answer.stdout)
    folder = tmp_path / "output" / "first"
    assert Path(said["output"]) == folder and not said["disagrees"]
    (point,) = said["points"]
    assert point["status"] == "ok" and point["chains"] == 640 and point["diverged"] == 0
    assert {row["quantity"].split("[")[0] for row in point["comparison"]["rows"]} >= {"mean", "covariance", "test_loss"}

    names = {"result.nc", "provenance.json", "predictions.json", "comparison.json", "comparison.md"}
    assert {path.name for path in folder.iterdir()} == names
    result = ss.load(folder / "result.nc")
    assert result.chains == 640 and result.provenance["run_file"] == SMALL
    assert result.test_loss == point["test_loss"]
    origin = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert origin["text"] == SMALL and origin["run"]["seed"] == 0 and origin["sgdsim"] == ss.__version__
    law = ss.predict(ss.LinearRegression([1.0, 0.5], [1.0, -1.0], 0.5), ss.SGD(0.3, 0.5), batch_size=8)
    (predicted,) = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
    assert predicted["test_loss"] == law.test_loss and predicted["covariance"] == law.covariance.tolist()
    table = (folder / "comparison.md").read_text(encoding="utf-8").splitlines()
    assert table[0].startswith("| quantity |") and len(table) == 2 + len(point["comparison"]["rows"])


def test_a_sweep_over_a_table_beside_the_file(tmp_path, monkeypatch):
    rows = [(x, 2 * x + (-1) ** i) for i, x in enumerate([0.1, 0.5, -1.0, 1.5, 2.0, -0.7])]
    (tmp_path / "data.csv").write_text("a,y\n" + "".join(f"{x},{y}\n" for x, y in rows), encoding="utf-8")
    file = tmp_path / "grid.toml"
    file.write_text(
        '[problem]\nkind = "DatasetRegression.from_table"\ntable = "data.csv"\ntarget = "y"\n'
        '[optimizer]\nkind = "SGD"\nlearning_rate = 0.1\n'
        "[sweep]\nbatch_size = [1, 4]\nlearning_rate = [0.1, 1.2]\nchains = 64\nsteps = 60\nburn_in = 20\n"
        'statistics = ["Losses"]\n[compare]\n',
        encoding="utf-8",
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    outcome = run_file(file, progress=False)
    assert outcome.folder == Path("output") / "grid"
    assert [point.at for point in outcome.points] == [
        {"batch_size": b, "learning_rate": rate} for b in (1, 4) for rate in (0.1, 1.2)
    ]
    beyond = outcome.points[1]
    assert beyond.prediction is None and beyond.comparison is None and beyond.note.startswith("learning_rate is 1.2")
    assert "no prediction" in beyond.sentence() and "batch_size 1, learning_rate 1.2" in beyond.sentence()
    assert outcome.points[0].result.noise_covariance is None
    saved = ss.load(tmp_path / "elsewhere" / "output" / "grid" / "result.nc")
    assert saved.shape == (2, 2)
    text = (outcome.folder / "comparison.md").read_text(encoding="utf-8")
    assert text.count("## batch_size") == 4 and "No prediction: learning_rate is 1.2" in text


def changed(old: str, new: str) -> str:
    assert EXAMPLE.count(old) == 1, old
    return EXAMPLE.replace(old, new)


MISTAKES = {
    "unknown key": (changed("label_noise =", "label_nose ="), "label_nose", ("did you mean 'label_noise'",)),
    "unknown section": (changed("[optimizer]", "[optimiser]"), "[optimiser]", ("'optimizer'?",)),
    "unknown kind": (changed('"SGD"', '"SDG"'), 'kind = "SDG"', ("did you mean 'SGD'", "'Adam'")),
    "a class of ours that is no choice": (changed('"SGD"', '"__import__"'), "__import__", ("kind", "'SGD'")),
    "kind is a list": (changed('"SGD"', '["SGD"]'), 'kind = ["SGD"]', ("['SGD']",)),
    "negative": (changed("noise = 0.5", "noise = -0.5"), "label_noise", ("-0.5", "standard deviation")),
    "text for a number": (changed("rate = 0.3", 'rate = "big"'), "learning_rate", ("'big'", "positive")),
    "infinite": (changed("rate = 0.3", "rate = inf"), "learning_rate", ("inf",)),
    "a date": (changed("noise = 0.5", "noise = 2020-01-01"), "label_noise", ("date", "number")),
    "a table": (changed("noise = 0.5", "noise = {a = 1}"), "label_noise", ("number",)),
    "matrix": (changed("[1.0, 0.5]", "[[1.0, 2.0], [2.0, 1.0]]"), "covariance", ("semi-definite",)),
    "ragged": (changed("[1.0, 0.5]", "[[1.0, 2.0], [2.0]]"), "covariance", ("array of real numbers",)),
    "several lines": (changed("[1.0, -1.0]", "[\n1.0,\n-1.0,\n3.0]"), "teacher", ("length 2", "(3,)")),
    "whole number": (changed("10_000", "1e4"), "chains", ("10000.0", "whole number")),
    "burn-in": (changed("burn_in = 500", "burn_in = 5000"), "burn_in", ("5000", "1999")),
    "list in simulate": (changed("batch_size = 8", "batch_size = [8, 16]"), "batch_size = [8", ("as many as steps",)),
    "both runs": (EXAMPLE + "[sweep]\n", "[sweep]", ("[simulate] or [sweep]",)),
    "missing": (changed("chains = 10_000", ""), "[simulate]", ("chains", "needs it")),
    "beyond the limit": (changed("rate = 0.3", "rate = 30"), "learning_rate", ("below 1.6",)),
    "approximation": (changed('"exact"', '"exat"'), "approximation", ("'exact'?",)),
    "error rate": (changed("rate = 0.01", "rate = 2"), "error_rate", ("2", "(0, 1)")),
    "sampling": (changed("seed = 0", 'sampling = "epochs"'), "sampling", ("'epochs'", "'online'")),
    "statistics": (changed("seed = 0", 'statistics = ["Momants"]'), "statistics", ("did you mean 'Moments'",)),
    "dtype": (changed("seed = 0", 'dtype = "float16"'), "dtype", ("float16", "float32")),
    "output": (changed('"output/first"', "3"), "output", ("folder",)),
    "section is a number": ("problem = 3\n[optimizer]\n", "problem = 3", ("[problem]",)),
    "inline table": ('problem = {kind = "LinearRegression", covariance = [-1.0]}\n' + EXAMPLE[EXAMPLE.index("[optim"):],
                     "problem =", ("problem.covariance", "-1")),
    "no csv": (changed('kind = "LinearRegression"', 'kind = "DatasetRegression.from_table"\ntable = "no.csv"').replace(
        "covariance =", "target =").replace("[1.0, 0.5]  ", '"y"').replace("teacher =", "# ").replace("# The", "#"),
        'table = "no.csv"', ("no.csv", "CSV")),
    "flag": (changed("momentum = 0.5", 'momentum = 0.5\nkind2 = "x"'), "kind2", ("'kind'?",)),
    "bool": (changed('"SGD"', '"Adam"\nbias_correction = "yes"').replace("momentum", "# "), "bias_correction",
             ("true or false",)),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_line_and_key(name, tmp_path, compilations):
    text, line, says = MISTAKES[name]
    file = tmp_path / "mistake.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape("mistake.toml, line ")) as caught:
        run_file(file)
    message = str(caught.value)
    number = int(re.search(r"line (\d+)", message)[1])
    shown = text.splitlines()[number - 1]
    assert line in shown, f"{message!r} points at {shown!r}"
    for part in says:
        assert part in message, message
    assert compilations() == 0 and not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[problem\n", "line 1, column 9"),
        (b"a = 1\na = 2\n", "line 2"),
        (b"a = '\xe9'\n", "line 1: it must be UTF-8"),
        (b"", "line 1: run is []"),
        (b"[simulate]\nbatch_size=1\nchains=1\nsteps=1\n", "[problem]"),
        (b"a = " + b"[" * 5000, "mistake.toml"),
    ],
)
def test_what_is_no_run_file_is_one_line_on_the_command_line(content, says, tmp_path):
    file = tmp_path / "mistake.toml"
    file.write_bytes(content)
    answer = call(file)
    assert answer.exit_code == 2 and answer.stderr.count("\n") == 1, answer.output
    assert says in answer.stderr


def test_no_file_and_no_theory(tmp_path):
    assert "--example" in call().stderr
    assert "existing TOML file" in call(tmp_path / "no.toml").stderr
    file = tmp_path / "taken.toml"
    text = EXAMPLE.replace("LinearRegression", "Ellipse").replace("covariance = [1.0, 0.5]", "a = 2.0\nb = 1.0")
    file.write_text(text.replace("teacher = [1.0, -1.0]", ""), encoding="utf-8")
    answer = call(file)
    assert answer.exit_code == 2 and "leave out [predict] and [compare]" in answer.stderr, answer.output
    assert "choose another name" in call(file, "--output", file).stderr


def test_a_byte_order_mark_and_windows_lines(tmp_path):
    file = tmp_path / "mistake.toml"
    file.write_bytes(b"\xef\xbb\xbf" + changed("noise = 0.5", "noise = -1").replace("\n", "\r\n").encode())
    assert f"line {line_of(EXAMPLE, ('problem', 'label_noise'))}, problem.label_noise" in call(file).stderr


def test_lines_of_keys():
    text = 'a.b = 1\n[c]\n# d = 0\nx = """\nd = 1\n"""\n"d" = [\n 1,\n]\n[[e]]\nf = {g = 1, h = 2}\n[c.d2]\ni=1\n'
    found = {("a",): 1, ("a", "b"): 1, ("c",): 2, ("c", "x"): 4, ("c", "d"): 7, ("e",): 10, ("c", "d2"): 12,
             ("c", "d2", "i"): 13, ("c", "missing"): 2, ("missing",): 1, (): 1}  # fmt: skip
    assert {keys: line_of(text, keys) for keys in found} == found


def test_a_run_that_fails_to_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    from sgdsim.experiments.framework.write import all_or_nothing

    folder = tmp_path / "run"
    with all_or_nothing(folder) as place:
        (place / "result.nc").write_text("old", encoding="utf-8")

    def fail(place):
        (place / "result.nc").write_text("new", encoding="utf-8")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"), all_or_nothing(folder) as place:
        fail(place)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert [path.read_text(encoding="utf-8") for path in folder.iterdir()] == ["old"]


def test_the_documentation_shows_the_example_and_every_name():
    page = (ROOT / "docs" / "run-file.md").read_text(encoding="utf-8")
    assert f"```toml\n{EXAMPLE}```" in page
    for name in (*PROBLEMS, *OPTIMIZERS):
        assert f"`{name}`" in page, name


VALUES = ["1", "-1", "0.5", "1e400", "nan", "inf", "true", '"SGD"', '"x"', "[]", "[1, 2]", "[[1.0]]", "[[1], 2]",
          '["a"]', "{}", "{a = 1}", "{a = {b = 1}}", "2020-01-01", "12:00:00", "[2020-01-01]", "[{a = 1}]", "",
          str(10**30), '"""a\nb"""', "'LinearRegression'", '"Adam"', '"CyclingToy"', '"Ellipse"']  # fmt: skip


@settings(max_examples=120, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_file_raises_anything_but_a_complaint_about_itself(tmp_path, monkeypatch, data):
    """The example with lines lost, doubled, moved or changed; what would be simulated is only checked."""
    lines = [line.split("#")[0] for line in EXAMPLE.splitlines()]
    for _ in range(data.draw(st.integers(1, 3))):
        i = data.draw(st.integers(0, len(lines) - 1))
        change = data.draw(st.sampled_from(["lose", "double", "move", "value", "value", "value", "key", "cut"]))
        line = lines.pop(i)
        key, _, _ = line.partition("=")
        if change == "double":
            lines[i:i] = [line, line]
        elif change == "move":
            lines.insert(data.draw(st.integers(0, len(lines))), line)
        elif change == "value":
            lines.insert(i, f"{key} = {data.draw(st.sampled_from(VALUES))}")
        elif change == "key":
            names = ["kind", "a", "steps", "table", "sampling", "noise", "record", "devices", "initial", "checkpoint",
                     "target_stderr", "passes", "dtype", "preconditioner", "a.b", '"learning_rate"']  # fmt: skip
            lines.insert(i, f"{data.draw(st.sampled_from(names))} = {data.draw(st.sampled_from(VALUES))}")
        elif change == "cut":
            lines.insert(i, line[: len(line) // 2])
    file = tmp_path / "fuzz.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    ran = []

    @functools.wraps(ss.simulate)
    def simulate(problem, optimizer, **options):
        ran.append(options)
        raise ValueError("chains is checked")

    with monkeypatch.context() as patched, pytest.raises(ValueError, match=r"^fuzz\.toml") as caught:
        patched.setitem(RUNS, "simulate", simulate)
        run_file(file)
    assert "\n" not in str(caught.value) or ran
