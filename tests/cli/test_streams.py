"""What the machine around the command line gets wrong is said in one line, with exit code 2; no work is lost to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sgdsim as ss
from sgdsim.problems.tables import read_frame

ROOT = Path(__file__).resolve().parents[2]
LIST, VERSION = ("list",), ("--version",)


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which $SGDSIM is the command; its exit code is that of the command."""
    unset = ("XLA_FLAGS", "PYTHONIOENCODING", "JAX_PLATFORMS")
    given = {name: value for name, value in os.environ.items() if name not in unset}
    given |= {"SGDSIM": f"{sys.executable} -m sgdsim", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=given, check=False)


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("sgdsim: error: "), done.stderr
    return lines[0]


@pytest.mark.parametrize("command", [
    "doctor", pytest.param("bench", marks=pytest.mark.slow), "reproduce fig4a --output {}",
    pytest.param("analyze diabetes --output {}", marks=pytest.mark.slow)])
def test_a_platform_that_is_not_there(command, tmp_path):
    said = complaint(shell(f"$SGDSIM {command.format(tmp_path)}", JAX_PLATFORMS="cuda"))
    assert "JAX_PLATFORMS is 'cuda'" in said and "unset it" in said
    assert not list(tmp_path.iterdir())


def test_nor_does_python_see_a_traceback_of_jax():
    code = "import sgdsim as ss; ss.simulate(ss.LinearRegression([1.0]), ss.SGD(0.1), batch_size=1, chains=2, steps=2)"
    done = shell(f"{sys.executable} -c '{code}'", JAX_PLATFORMS="cuda")
    assert done.stderr.splitlines()[-1].startswith("ValueError: JAX_PLATFORMS is 'cuda'")


@pytest.mark.parametrize("command", ["list", pytest.param("list --json", marks=pytest.mark.slow), "--version"])
@pytest.mark.parametrize("end", [">&-", "> /dev/full", "| true; exit ${PIPESTATUS[0]}"])
def test_standard_output_that_takes_nothing(command, end):
    if end == "> /dev/full" and not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this machine")
    complaint(shell(f"$SGDSIM {command} {end}"))


def test_an_encoding_without_the_signs_of_a_table(tmp_path):
    """The table of verdicts comes after the work."""
    done = shell(f"$SGDSIM reproduce fig4a --output {tmp_path}", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "verdicts" in done.stdout and "agree" in done.stdout and done.stdout.isascii()


def test_home_is_understood_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    problem, run = ss.LinearRegression([1.0], label_noise=0.5), {"batch_size": 2, "chains": 64, "steps": 20}
    result = ss.simulate(problem, ss.SGD(0.1), **run, checkpoint="~/saved")
    assert list((tmp_path / "saved").iterdir())
    result.save("~/result.nc")
    assert (tmp_path / "result.nc").is_file()
    np.testing.assert_array_equal(ss.load("~/result.nc").covariance, result.covariance)
    pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 5.0]}).to_csv(tmp_path / "table.csv", index=False)
    assert list(read_frame("~/table.csv").columns) == ["x", "y"]
    with pytest.raises(ValueError, match=r"path is '~nobody.*home folder"):
        ss.load("~nobody-of-this-name/result.nc")


@pytest.mark.slow
def test_home_is_understood_in_run_files(tmp_path):
    (tmp_path / "table.csv").write_text("x,y\n" + "\n".join(f"{i},{i % 3}" for i in range(12)))
    (tmp_path / "run.toml").write_text(
        'output = "~/out"\n[problem]\nkind = "DatasetRegression.from_table"\ntable = "~/table.csv"\ntarget = "y"\n'
        'standardize_columns = true\n[optimizer]\nkind = "SGD"\nlearning_rate = 0.1\n'
        "[simulate]\nbatch_size = 2\nchains = 256\nsteps = 100\nburn_in = 50\n")
    done = shell("$SGDSIM run '~/run.toml'", HOME=str(tmp_path))
    assert done.returncode in (0, 1), done.stderr
    assert (tmp_path / "out").is_dir()
    listed = shell("$SGDSIM reproduce fig4a --output '~/figures'", HOME=str(tmp_path))
    assert listed.returncode == 0 and (tmp_path / "figures" / "report.html").is_file(), listed.stderr
