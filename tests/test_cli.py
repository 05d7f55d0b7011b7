import builtins
import importlib.util
import json
import sys

import pytest

pytest.importorskip("typer")
pd = pytest.importorskip("pandas")

from typer.testing import CliRunner  # noqa: E402

from sgdsim import __main__, cli  # noqa: E402
from sgdsim._version import __version__  # noqa: E402
from sgdsim.compare import judge  # noqa: E402
from sgdsim.experiments import Done  # noqa: E402
from sgdsim.experiments.findings import Findings, Verdict  # noqa: E402


@pytest.fixture(autouse=True)
def leave_the_devices_alone(monkeypatch):
    monkeypatch.setattr(cli.ss, "use_all_cores", lambda: 1)


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


def fails(*arguments):
    answer = call(*arguments)
    assert answer.exit_code == 2, answer.output
    lines = answer.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("sgdsim: error: "), answer.stderr
    return lines[0]


def test_version():
    assert call("--version").stdout.strip() == f"sgdsim {__version__}"


def test_list():
    answer = call("list")
    assert answer.exit_code == 0 and "fig3_left" in answer.stdout and "table2" in answer.stdout
    assert {e["id"] for e in json.loads(call("list", "--json").stdout)} >= {"fig5", "fig4a"}


def test_doctor():
    facts = json.loads(call("doctor", "--json").stdout)
    assert facts["versions"]["sgdsim"] and facts["dtype"] == "float32" and facts["devices"]
    assert "jax" in call("doctor").stdout


def test_unknown_experiment_suggests():
    assert "did you mean 'fig4a'" in fails("reproduce", "fig4")


def test_reproduce_needs_a_name():
    assert "--all" in fails("reproduce")


def test_bad_scale():
    assert "smoke" in fails("reproduce", "fig4a", "--scale", "huge")


def csv(tmp_path, text, name="data.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "target", "why"),
    [
        ("", "y", "header"),
        ("a,y\n", "y", "non-empty"),
        ("a,y\n1,2\n2,3\n", "z", "target"),
        ("a,y\n1,2\n2,2\n", "y", "varies"),
        ("a,y\n1,2\n,3\n", "y", "row 2, column 'a'"),
        ("a,y\nred,2\n2,3\n", "y", "row 1, column 'a'"),
        ("a,y\n1,2\n1,3\n", "y", "varies"),
        ("y\n2\n3\n", "y", "two columns"),
    ],
)
def test_bad_tables(tmp_path, text, target, why):
    assert why in fails("analyze", csv(tmp_path, text), "--target", target, "--output", tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--batch-sizes", "0"], "batch_sizes"),
        (["--batch-sizes", "4,x"], "--batch-sizes"),
        (["--batch-sizes", "1.5"], "--batch-sizes"),
        (["--learning-rates", "-1"], "learning_rates"),
        (["--learning-rates", "nan"], "learning_rates"),
        ([], "target"),
    ],
)
def test_bad_options(tmp_path, options, why):
    path = csv(tmp_path, "a,y\n1,2\n2,5\n3,4\n4,9\n")
    target = ["--target", "y"] if options else []
    assert why in fails("analyze", path, *target, *options, "--output", tmp_path / "out")


def test_missing_file_and_bad_output(tmp_path):
    assert "CSV" in fails("analyze", tmp_path / "no.csv", "--target", "y")
    path = csv(tmp_path, "a,y\n1,2\n2,5\n")
    assert "folder" in fails("analyze", path, "--target", "y", "--output", path)


@pytest.mark.parametrize(("error", "code"), [(0.01, 0), (0.001, 1)])
def test_exit_code_follows_the_verdicts(monkeypatch, tmp_path, error, code):
    found = Findings([Verdict("[b]", judge("x", 1.0, error, 1.02))], {}, [], summary=["[red]as it is"])
    monkeypatch.setattr(cli, "run_several", lambda ids, *_: [Done(name, found, 0.1) for name in ids])
    answer = call("reproduce", "fig4a", "--output", tmp_path)
    assert answer.exit_code == code
    assert "[b]" in answer.stdout and "[red]as it is" in answer.stdout and "verdicts:" in answer.stdout
    content = json.loads(call("reproduce", "--all", "--json", "--output", tmp_path).stdout)
    assert content["disagrees"] is bool(code) and len(content["experiments"]) >= 6


def test_a_missing_extra_is_one_line(monkeypatch, capsys):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rich" else real(name))
    with pytest.raises(SystemExit) as stop:
        __main__.main()
    assert stop.value.code == 2
    assert "pip install 'sgdsim[cli]'" in capsys.readouterr().err


def test_bench_outside_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "sgdsim" / "cli.py"))
    assert "checkout" in fails("bench")


def test_the_real_thing_runs_without_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sgdsim", "list"])
    printed = []
    monkeypatch.setattr(builtins, "print", printed.append)
    with pytest.raises(SystemExit) as stop:
        __main__.main()
    assert stop.value.code == 0
