import builtins
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("typer")
pd = pytest.importorskip("pandas")

from typer.testing import CliRunner  # noqa: E402

import sgdsim as ss  # noqa: E402
from sgdsim import __main__  # noqa: E402
from sgdsim._version import __version__  # noqa: E402
from sgdsim.cli import app as cli  # noqa: E402
from sgdsim.cli import complete, published  # noqa: E402
from sgdsim.cli.one_line import Stopped, stopping_at_once  # noqa: E402
from sgdsim.comparisons.judge import judge  # noqa: E402
from sgdsim.experiments import Done, list_experiments  # noqa: E402
from sgdsim.experiments.framework.findings import SCALES, Findings, Verdict  # noqa: E402
from sgdsim.workflows.run_example import EXAMPLE  # noqa: E402


@pytest.fixture(autouse=True)
def leave_the_devices_alone(monkeypatch):
    monkeypatch.setattr(ss, "use_all_cores", lambda: 1)


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


def test_design_prints_and_draws(tmp_path):
    rng = pd.Series(range(40))
    frame = pd.DataFrame({"a": rng % 7, "b": (rng * 5) % 11, "price": (rng % 7) - (rng * 5) % 11 + (rng * 3) % 4})
    frame.to_csv(tmp_path / "data.csv", index=False)
    answer = call("design", tmp_path / "data.csv", "--target", "price", "--steps", 20, "--examples", 60,
                  "--momentum", 0.5, "-o", tmp_path / "out", "--json")  # fmt: skip
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)["experiments"]["design"]
    assert [v["setting"] for v in found["verdicts"]] == ["designed", "constant", "cosine", "linear"]
    assert {v["verdict"] for v in found["verdicts"]} == {"agree"}
    assert (tmp_path / "out" / "design-data" / "figure.png").stat().st_size > 10_000
    assert "steps" in call("design", tmp_path / "data.csv", "--target", "price").output
    assert "steps is 1" in fails("design", tmp_path / "data.csv", "--target", "price", "--steps", 1)


def test_missing_file_and_bad_output(tmp_path):
    assert "CSV" in fails("analyze", tmp_path / "no.csv", "--target", "y")
    path = csv(tmp_path, "a,y\n1,2\n2,5\n")
    assert "folder" in fails("analyze", path, "--target", "y", "--output", path)


@pytest.mark.parametrize(("error", "code"), [(0.01, 0), (0.001, 1)])
def test_exit_code_follows_the_verdicts(monkeypatch, tmp_path, error, code):
    found = Findings([Verdict("[b]", judge("x", 1.0, error, 1.02))], {}, [], summary=["[red]as it is"])
    monkeypatch.setattr(published, "run_several", lambda ids, *_: [Done(name, found, 0.1) for name in ids])
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
    monkeypatch.setattr(ss, "__file__", str(tmp_path / "sgdsim" / "__init__.py"))
    assert "checkout" in fails("bench")


def test_the_real_thing_runs_without_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sgdsim", "list"])
    printed = []
    monkeypatch.setattr(builtins, "print", printed.append)
    with pytest.raises(SystemExit) as stop:
        __main__.main()
    assert stop.value.code == 0


ROOT = Path(__file__).resolve().parents[2]
CODES = {0: "no number disagrees", 1: "disagrees", 2: "wrong or missing", 130: "interrupted"}


def test_exit_codes_are_in_the_help_and_on_one_page():
    said = " ".join(call("--help").stdout.split())
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| (\d+) \| (.*) \|$", page, flags=re.MULTILINE))
    assert set(map(int, table)) == set(CODES)
    for code, meaning in CODES.items():
        assert str(code) in said and meaning in said and meaning in table[str(code)]


def test_every_command_is_documented_and_prints_json_when_asked():
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    for command in cli.app.registered_commands:
        name = command.name or command.callback.__name__
        assert f"`sgdsim {name}" in page, name
        if name != "explore":  # it serves pages until it is stopped
            assert "--json" in call(name, "--help").stdout, name


def completions(words, position):
    answer = CliRunner().invoke(
        cli.app, prog_name="sgdsim",
        env={"_SGDSIM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)},
    )  # fmt: skip
    return answer.stdout.split()


def test_completion_knows_commands_experiments_and_scales():
    assert {"reproduce", "run", "doctor"} <= set(completions("sgdsim ", 1))
    assert set(completions("sgdsim reproduce fig4", 2)) == {"fig4a", "fig4bc"}
    assert completions("sgdsim reproduce --scale lap", 3) == ["laptop"]
    assert complete.experiments("") == [(e.id, e.title) for e in list_experiments()]
    assert complete.scales("") == list(SCALES)
    assert "--install-completion" in call("--help").stdout and "--show-completion" in call("--help").stdout


@pytest.mark.parametrize("pressed", [KeyboardInterrupt, Stopped])
def test_ctrl_c_is_one_line_and_130(monkeypatch, pressed):
    def interrupted():
        raise pressed

    monkeypatch.setattr(published, "list_experiments", interrupted)
    answer = call("list")
    assert answer.exit_code == 130 and answer.stderr == "sgdsim: interrupted\n" and not answer.stdout


def test_ctrl_c_while_the_command_is_being_imported(monkeypatch, capsys):
    class Slow:
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "sgdsim.cli.app", Slow())
    with pytest.raises(SystemExit) as stop:
        __main__.main()
    assert stop.value.code == 130 and capsys.readouterr().err == "sgdsim: interrupted\n"


def test_ctrl_c_ends_the_command_and_not_only_the_simulation():
    """The engine ends a simulation at KeyboardInterrupt and hands back what there is: a command wants to stop."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped), stopping_at_once():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except KeyboardInterrupt:
            pytest.fail("an engine would go on")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("reproduce", "fig4a", "fig5", "fig6"), ("analyze", "diabetes")])
@pytest.mark.parametrize("seconds", [6.0, 10.0])
def test_ctrl_c_in_a_terminal(tmp_path, arguments, seconds):
    """To the whole process group, as a terminal does: in the pool of processes, in the engine."""
    command = [sys.executable, "-m", "sgdsim", *arguments, "--output", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        time.sleep(seconds)
        if process.poll() is not None:
            pytest.skip("it was faster than that")
        os.killpg(process.pid, signal.SIGINT)
        begun = time.monotonic()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.splitlines() == ["sgdsim: interrupted"] and not out, (err, out)
    assert time.monotonic() - begun < 20


def test_bench_prints_json(monkeypatch, tmp_path):
    (tmp_path / "sgdsim").mkdir()
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "run.py").write_text(
        "import pathlib; print('a table')\n"
        "pathlib.Path(__file__).with_name('results.json').write_text('{\"rows\": []}\\n')\n"
    )
    monkeypatch.setattr(ss, "__file__", str(tmp_path / "sgdsim" / "__init__.py"))
    done = call("bench", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout) == {"rows": []}
    (tmp_path / "bench" / "run.py").write_text("raise SystemExit(2)")
    assert call("bench", "--json").exit_code == 2 and not call("bench", "--json").stdout


MISSING = {
    "pandas": (("analyze", "table.csv", "--target", "y"), "sgdsim[data]"),
    "sklearn.datasets": (("analyze", "diabetes"), "sgdsim[data]"),
    "xarray": (("run", "file.toml"), "sgdsim[results]"),
    "h5netcdf": (("run", "file.toml"), "sgdsim[results]"),
}


@pytest.mark.parametrize("module", MISSING)
def test_what_an_extra_is_missing_for_says_so_in_one_line(module, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    csv(tmp_path, "a,y\n1,2\n2,5\n", "table.csv")
    csv(tmp_path, EXAMPLE, "file.toml")
    monkeypatch.setitem(sys.modules, module, None)
    arguments, extra = MISSING[module]
    assert f"pip install '{extra}'" in fails(*arguments)
