"""Notebooks are committed without outputs, and one that fails makes the test command fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


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
