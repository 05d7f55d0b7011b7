"""What the pages show is what a reader gets: their Python runs, and the site builds without a warning."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.experiments import list_experiments

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What a page takes as given.
GIVEN = {
    "first-experiment.md": lambda: {},
    "gradient-variance.md": lambda: {"network": ss.TwoLayerLinear(np.eye(2), np.eye(2))},
    "how-to.md": lambda: {"ss": ss},
    "index.md": lambda: {},
    "networks.md": lambda: {"X": np.random.default_rng(0).normal(size=(64, 4)), "labels": np.arange(64) % 10},
    "optimizers.md": lambda: {},
    "own-formula.md": lambda: {},
    "problems.md": lambda: {},
    "results.md": lambda: {},
    "theory/label-noise.md": lambda: {},
    "theory/scaling-law.md": lambda: {"ss": ss, "problem": ss.LinearRegression([1.0, 0.5], label_noise=0.5)},
    "theory/whole-run.md": lambda: {},
}
ELSEWHERE = {"plots.md", "clusters.md"}  # tests/plots/test_plots.py; a cluster
MOST = {"chains": 256, "runs": 256, "steps": 2_000, "burn_in": 500}


def smaller(code: str) -> str:
    """The same calls with fewer chains and steps."""

    def limited(found: re.Match[str]) -> str:
        return f"{found[1]}={min(MOST[found[1]], int(found[2].replace('_', '')))}"

    return re.sub(rf"\b({'|'.join(MOST)})=([\d_]+)", limited, code)


def test_every_page_with_python_is_run():
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if BLOCK.search(path.read_text("utf-8"))}
    assert pages == GIVEN.keys() | ELSEWHERE


SLOW = ("gradient-variance.md", "own-formula.md", "networks.md")


@pytest.mark.parametrize("page", [pytest.param(p, marks=pytest.mark.slow) if p in SLOW else p for p in GIVEN])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for table, target in {"data.csv": "price", "diabetes.csv": "target"}.items():
        rows = np.column_stack([rng.normal(size=(442, 3)), rng.normal(size=442)])
        np.savetxt(tmp_path / table, rows, delimiter=",", header=f"a,b,c,{target}", comments="")
    monkeypatch.chdir(tmp_path)
    namespace = GIVEN[page]()
    for number, code in enumerate(BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))):
        exec(compile(smaller(code), f"{page}, block {number}", "exec"), namespace)


def test_the_site_builds(tmp_path):
    """No link is broken, every name of the reference has a docstring. The notebooks are run by `make test` itself."""
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        capture_output=True, text=True, check=False, cwd=ROOT,
        env=os.environ | {"EXECUTE_NOTEBOOKS": "false", "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "notebooks" / "01_first_experiment" / "index.html").exists()
    for path in tmp_path.rglob("*.html"):
        text = path.read_text("utf-8")
        # Nothing is asked from elsewhere when a page is read.
        asked = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', text)
        assert not asked, (path, asked)
        # What the browser makes formulas of has no dollars left in it, and braces in pairs.
        for formula in re.findall(r'class="arithmatex">(.*?)</(?:span|div)>', text, re.DOTALL):
            braces = re.findall(r"(?<!\\)[{}]", formula)
            assert "$" not in formula and braces.count("{") == braces.count("}"), (path, formula)


PAGES = [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "bench").rglob("*.md")]
TESTS = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
ARGUMENTS = {"test_features", "test_targets", "test_loss"}  # no tests, although they are called so


MADE = ("output/", "site/")


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_page_names_exists(page):
    """Files, tests, names of sgdsim and experiments: whatever stands between backquotes."""
    text = page.read_text(encoding="utf-8")
    wrong = [quoted for quoted in re.findall(r"`([^`\n]+)`", text) if not exists(quoted)]
    known = {experiment.id for experiment in list_experiments()}
    wrong += [name for name in re.findall(r"sgdsim reproduce ([a-z]\w+)", text) if name not in known]
    assert not wrong, wrong


def exists(quoted: str) -> bool:
    """Whether it is there, if it is a file, a test or a name of sgdsim; True for anything else."""
    file = quoted.partition("::")[0]
    if re.fullmatch(r"[\w./]+/([\w.]+\.(py|md|ipynb))?", file) and not file.startswith(MADE):
        return (ROOT / file).exists() or (ROOT / "sgdsim" / file).exists()
    if re.fullmatch(r"test_\w+", quoted):
        return f"\ndef {quoted}" in TESTS or quoted in ARGUMENTS
    if named := re.match(r"(?:(?:ss|sgdsim)\.|(?=solver\.|statistics\.|estimators\.))([\w.]*\w)", quoted):
        try:
            importlib.import_module(f"sgdsim.{named[1]}")
        except ModuleNotFoundError:
            with contextlib.suppress(AttributeError):
                return functools.reduce(getattr, named[1].split("."), ss) is not None
            return False
    return True
