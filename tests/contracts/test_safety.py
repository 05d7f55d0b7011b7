"""Files are written whole or not at all, nothing in a file is executed, and what a file says is escaped."""

from __future__ import annotations

import ast
import importlib
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sgdsim.comparisons.judge import judge
from sgdsim.experiments.framework.findings import Figure, Findings, Verdict
from sgdsim.experiments.framework.report import build_report
from sgdsim.experiments.framework.write import write
from sgdsim.workflows.polynomial_section import Section

PACKAGE = Path(__file__).resolve().parents[2] / "sgdsim"
# Functions that run what a file says; ours never call them.
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load", "yaml.full_load",
                   "pandas.read_pickle", "pd.read_pickle", "os.system", "joblib.load", "jnp.load"}  # fmt: skip
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def dangers(source: str) -> list[str]:
    """Calls and imports that could run what a file says."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_IMPORTS]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_IMPORTS:
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            plain = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if name in FORBIDDEN_CALLS or (name in ("np.load", "numpy.load") and plain.get("allow_pickle") != "False"):
                found.append(name)
            if plain.get("shell") == "True":
                found.append(f"{name} with a shell")
    return found


def test_nothing_in_the_package_executes_files():
    found = {path.name: dangers(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    # What it unpickles is a part of what the user unpickles: a network's own bytes, never a file's.
    assert found.pop("flax_modules.py") == ["pickle"]
    assert len(found) > 100 and {name: calls for name, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import load", "eval(text)", "np.load(path)", "np.load(p, allow_pickle=True)",
     "yaml.load(f)", "pd.read_pickle(p)", "subprocess.run(x, shell=True)", "def f():\n    import dill"],
)  # fmt: skip
def test_the_search_finds_them(source):
    assert dangers(source)
    assert not dangers("np.load(p, allow_pickle=False)\njson.loads(text)\nevaluate(x)")


def findings(draw, value=1.0):
    return Findings([Verdict("here", judge("x", value, 0.01, 1.0))], {"x": ((), value)}, [Figure("figure", "it", draw)])


def picture():
    from matplotlib.figure import Figure as Picture

    return Picture(figsize=(1, 1))


HEAD = {"id": "one", "title": "One", "reference": "none", "scale": "smoke", "seconds": 1.0}


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_write_that_fails_midway_changes_nothing(tmp_path, monkeypatch):
    def fails():
        raise OSError("the disk is full")

    folder = tmp_path / "one"
    write(findings(picture), folder, **HEAD)
    before = snapshot(tmp_path)
    assert {Path(name).name for name in before} == {"figure.png", "data.json", "section.json", "data.nc"}
    with pytest.raises(OSError, match="full"):
        write(findings(fails, 2.0), folder, **HEAD)
    assert snapshot(tmp_path) == before
    monkeypatch.setattr("sgdsim.experiments.framework.write.to_dataset", lambda *_: fails())  # the last file of all
    with pytest.raises(OSError, match="full"):
        write(findings(picture, 2.0), folder, **HEAD)
    assert snapshot(tmp_path) == before
    monkeypatch.undo()
    write(findings(picture, 2.0), folder, **HEAD)
    assert snapshot(tmp_path).keys() == before.keys() and snapshot(tmp_path) != before


def test_a_report_that_fails_midway_leaves_the_old_one(tmp_path, monkeypatch):
    write(findings(picture), tmp_path / "one", **HEAD)
    before = build_report(tmp_path).read_bytes()
    assert b"<h2>One</h2>" in before

    def fails(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="full"):
        build_report(tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "report.html").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "report.html"]


def test_a_damaged_section_is_named_and_a_hidden_one_is_not_read(tmp_path):
    write(findings(picture), tmp_path / "one", **HEAD)
    (tmp_path / ".two-x1").mkdir()
    (tmp_path / ".two-x1" / "section.json").write_text("{", encoding="utf-8")
    assert "1 sections" in build_report(tmp_path).read_text(encoding="utf-8")
    (tmp_path / "one" / "section.json").write_text('{"id": ', encoding="utf-8")
    with pytest.raises(ValueError, match=r"section is .*undamaged JSON.*delete the folder one"):
        build_report(tmp_path)


def test_the_report_escapes_what_a_table_says(tmp_path, monkeypatch):
    analysis = importlib.import_module("sgdsim.workflows.analyze")  # the package has a function of that name
    evil = '<script>alert("x")</script>'
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20))
    frame = pd.DataFrame({evil: a, "'><img src=x onerror=alert(1)>": b, "<b>y</b>": a - b + rng.normal(size=20)})
    monkeypatch.setattr(analysis, "BUDGET", 1e6)  # nothing is measured well here, only named
    monkeypatch.setattr(analysis, "polynomial_section", lambda *_: Section([], [], [], [], {}))
    analysis.analyze(frame, "<b>y</b>", batch_sizes=[2], learning_rates=[0.05], output=tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert" in page and "&lt;img src=x" in page and "&lt;b&gt;y&lt;/b&gt;" in page
    assert "<script" not in page and "<img src=x" not in page and "<b>y" not in page
    names = json.loads((tmp_path / "analyze-table" / "data.json").read_text(encoding="utf-8"))["data"]["parameter"]
    assert evil in names["values"]

