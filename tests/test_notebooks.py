"""Notebooks are committed without outputs, and one that fails makes the test command fail."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_is_a_notebook():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_outputs_are_stripped(path):
    notebook = nbformat.read(path, as_version=4)
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            assert not cell.outputs, f"cell {number} of {path.name} has outputs: run nbstripout {path.name}"
            assert cell.execution_count is None, f"cell {number} of {path.name} has an execution count"
        assert not set(cell.metadata) & {"execution", "collapsed", "scrolled"}, f"cell {number} of {path.name}"


def test_a_failing_cell_fails_the_run(tmp_path):
    for name, last_cell in {"right": "assert 1 + 1 == 2", "wrong": "assert 1 + 1 == 3"}.items():
        cells = [nbformat.v4.new_code_cell("x = 1"), nbformat.v4.new_code_cell(last_cell)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / f"{name}.ipynb")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbmake", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1 and "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr


def test_every_cell_shows_its_figure(monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)
    draw = "from sgdsim.plots import curve\ncurve({'exact': ([0, 1], [0, 1])});"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(draw) for _ in range(2)])
    NotebookClient(notebook, timeout=120).execute()
    assert ["image/png" in cell.outputs[-1].data for cell in notebook.cells] == [True, True]


@pytest.fixture(scope="module")
def site():
    """What turns notebooks into pages."""
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("notebook_pages", ROOT / "docs" / "_notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(path, *cells):
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    return path


def test_a_page_has_what_its_cells_print_and_draw(site, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")  # as `make` has it
    monkeypatch.setattr(site, "SECONDS", 40)
    bar = "from rich.progress import track\nfor _ in track(range(2)): pass\nprint('said')"
    draw = "from sgdsim.plots import curve\ncurve({'exact': ([0, 1], [0, 1])});"
    path = written(tmp_path / "shown.ipynb", bar, draw)
    (place, text), (figure, content) = site.page(site.executed(path), path.stem)
    assert place == "notebooks/shown.md" and "    said\n" in text and "<pre" not in text and "Output()" not in text
    assert f"]({figure.removeprefix('notebooks/')})" in text and content.startswith(b"\x89PNG")
    assert not nbformat.read(path, as_version=4).cells[0].outputs, "the notebook itself stays as it was"


def test_a_failing_cell_fails_the_site(site, tmp_path):
    with pytest.raises(CellExecutionError, match="1 \\+ 1 == 3"):
        site.executed(written(tmp_path / "wrong.ipynb", "x = 1", "assert 1 + 1 == 3"))


@pytest.mark.slow
def test_a_kernel_that_does_not_answer_gets_another_try(site, tmp_path, monkeypatch):
    monkeypatch.setattr(site, "SECONDS", 8)
    hangs_once = f"import pathlib, time\nmark = pathlib.Path({str(tmp_path / 'mark')!r})\nseen = mark.exists()\n" \
                 "mark.touch()\nseen or time.sleep(1000)\nprint('came back')"
    assert "came back" in site.executed(written(tmp_path / "hangs.ipynb", hangs_once)).cells[0].outputs[0].text


def test_every_notebook_has_its_place_in_the_navigation():
    listed = set((ROOT / "mkdocs.yml").read_text(encoding="utf-8").split())
    assert {f"notebooks/{path.stem}.md" for path in NOTEBOOKS} <= listed
