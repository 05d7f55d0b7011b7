"""What is shipped: one version, metadata that others can read, a wheel that works and can be type-checked."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import sgdsim
from sgdsim._version import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_one_version():
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "sgdsim._version.__version__"}
    assert sgdsim.__version__ == __version__ == importlib.metadata.version("sgdsim")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changes, flags=re.MULTILINE)[1] == __version__
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "sgdsim").rglob("*.py")}
    assert [path.name for path, text in sources.items() if f'"{__version__}"' in text] == ["_version.py"]


def test_the_citation_file_is_valid():
    """The keys that version 1.2.0 of the Citation File Format asks for, and the types it gives them."""
    yaml = pytest.importorskip("yaml")
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert content.keys() >= {"cff-version", "message", "title", "authors"}
    allowed = {"abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi", "identifiers",
               "keywords", "license", "license-url", "message", "preferred-citation", "references", "repository",
               "repository-artifact", "repository-code", "title", "type", "url", "version"}  # fmt: skip
    assert content.keys() <= allowed and content["cff-version"] == "1.2.0" and content["type"] == "software"
    assert str(content["version"]) == __version__ and content["license"] == PROJECT["project"]["license"]
    for reference in [content, *content.get("references", [])]:
        assert isinstance(reference["title"], str) and reference["authors"]
        assert all(author.keys() <= {"name", "family-names", "given-names", "orcid", "affiliation", "email", "alias",
                                     "website", "name-particle", "name-suffix"} for author in reference["authors"])
        assert reference is content or isinstance(reference["type"], str)


def test_everything_is_listed_for_the_wheel():
    setuptools = pytest.importorskip("setuptools")
    found = PROJECT["tool"]["setuptools"]["packages"]["find"]
    assert found == {"include": ["sgdsim*"], "namespaces": False}
    listed = set(setuptools.find_packages(str(ROOT), include=found["include"]))
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "sgdsim").rglob("*.py")}
    assert listed == {".".join(folder.parts) for folder in folders}
    data = PROJECT["tool"]["setuptools"]["package-data"]["sgdsim"]
    others = {path for path in (ROOT / "sgdsim").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    shipped = {path for pattern in data for path in (ROOT / "sgdsim").glob(pattern)}
    assert (ROOT / "sgdsim" / "py.typed") in shipped and others == shipped


def test_extras_are_those_that_complaints_name():
    extras = PROJECT["project"]["optional-dependencies"]
    named = set()
    for path in (ROOT / "sgdsim").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r"sgdsim\[(\w+)\]", text)) | set(re.findall(r'need\("[\w.]+", "(\w+)"\)', text))
    assert named <= set(extras), named - set(extras)
    users = set(extras) - {"all", "test", "docs", "cuda"}
    assert set(re.findall(r"\w+", extras["all"][0].partition("[")[2])) >= users - {"checkpoint"}


TYPED = """
from typing import assert_type

import numpy as np

import sgdsim as ss

problem = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
optimizer = ss.SGD(learning_rate=0.3, momentum=0.5)
result = ss.simulate(problem, optimizer, batch_size=8, chains=64, steps=20, burn_in=5, seed=0)
assert_type(result, ss.Result)
theory = ss.predict(problem, optimizer, batch_size=8)
assert_type(theory, ss.Prediction)
report = ss.compare(result, theory)
assert_type(report, ss.Comparison)
assert_type(report.table(), str)
assert_type(theory.max_learning_rate, float)
grid = ss.sweep(problem, optimizer, batch_size=[1, 2], chains=64, steps=20)
assert_type(grid, ss.SweepResult)
assert_type(grid.sel(batch_size=1), ss.Result)
assert_type(result.status, str)
assert_type(problem.dimension, int)
print(report.table() if np.isfinite(theory.test_loss) else "")
"""
MISTYPED = ("ss.simulate(problem, optimizer, batch_size='8', chains=64, steps=20)", "ss.SGD(rate=0.1)", "ss.nothing",
            "report.table(1)", "ss.predict(problem, optimizer)")  # fmt: skip


def run(*command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)


def sh(*command, **options):
    done = run(*command, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel that is built from the source distribution, which is built from a copy of what git would ship."""
    place = tmp_path_factory.mktemp("build")
    leave = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "output", "site")
    shutil.copytree(ROOT, place / "source", ignore=leave)
    venv.create(place / "tools", with_pip=True)
    python = place / "tools" / "bin" / "python"
    sh(python, "-m", "pip", "install", "--quiet", "build")
    sh(python, "-m", "build", "--outdir", place / "dist", place / "source")
    return next((place / "dist").glob("*.whl")), next((place / "dist").glob("*.tar.gz"))


@pytest.mark.slow
def test_the_distributions_have_what_they_should(wheel):
    built, source = wheel
    assert f"sgdsim-{__version__}" in built.name
    names = set(zipfile.ZipFile(built).namelist())
    files = [path for path in (ROOT / "sgdsim").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    ours = {str(path.relative_to(ROOT)) for path in files}
    assert {name for name in names if ".dist-info/" not in name} == ours
    with tarfile.open(source) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert held >= ours | {"LICENSE", "CHANGELOG.md", "CITATION.cff", "Makefile", "tests/conftest.py", "docs/index.md"}
    assert not any("__pycache__" in name or name.startswith("output") for name in held | names)


@pytest.mark.slow
def test_the_wheel_works_with_the_core_alone_and_is_typed(wheel, tmp_path):
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    sh(python, "-m", "pip", "install", "--quiet", wheel[0])
    options = {"cwd": tmp_path, "env": {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}}
    (tmp_path / "typed.py").write_text(TYPED, encoding="utf-8")
    assert "covariance" in sh(python, "typed.py", **options)
    where = sh(python, "-c", "import sgdsim; print(sgdsim.__version__, sgdsim.__file__)", **options).split()
    assert where[0] == __version__ and where[1].startswith(str(tmp_path))
    hints = {
        "ss.DatasetRegression.from_table('t.csv', target='y')": "sgdsim[data]",
        "ss.load('r.nc')": "sgdsim[results]",
        "from sgdsim import plots; plots.panels(1, 1, (1, 1))": "sgdsim[plots]",
    }
    for code, extra in hints.items():
        done = run(python, "-c", f"import sgdsim as ss; {code}", **options)
        assert done.returncode == 1 and f"pip install '{extra}'" in done.stderr.splitlines()[-1], done.stderr
    done = run(python.with_name("sgdsim"), **options)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "sgdsim[cli]" in done.stderr

    sh(python, "-m", "pip", "install", "--quiet", "mypy")
    sh(python, "-m", "mypy", "--strict", "typed.py", **options)
    for line in MISTYPED:
        (tmp_path / "wrong.py").write_text(TYPED + line + "\n", encoding="utf-8")
        done = run(python, "-m", "mypy", "--strict", "wrong.py", **options)
        assert done.returncode == 1 and f"wrong.py:{TYPED.count(chr(10)) + 1}:" in done.stdout, (line, done.stdout)


def test_every_push_and_every_commit_goes_through_the_same_commands():
    yaml = pytest.importorskip("yaml")
    low, below = map(int, re.findall(r"3\.(\d+)", PROJECT["project"]["requires-python"]))
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == [f"3.{low}", f"3.{below - 1}"]
    assert job["steps"][-1]["run"] == "make test PYTHON=python"
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    tools = {hook["entry"].split()[2] for hook in hooks}
    installed = {re.match(r"[\w-]+", name)[0] for name in PROJECT["project"]["optional-dependencies"]["test"]}
    assert tools == {"ruff", "mypy", "nbstripout"} <= installed


def test_these_tests_run_on_a_supported_python():
    low, high = re.findall(r"3\.(\d+)", PROJECT["project"]["requires-python"])
    assert int(low) <= sys.version_info.minor < int(high)
