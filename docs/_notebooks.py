"""The notebooks as pages, with what their cells print and draw: they are executed when the site is built.

A cell that fails fails the build. For a quick look at other pages, `EXECUTE_NOTEBOOKS=false mkdocs serve` leaves the
outputs out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError
from nbconvert import MarkdownExporter
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
# `make` asks for figures in files; here they belong under their cells.
ENVIRONMENT = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
QUIET = ["--log-level=CRITICAL"]  # a cell that fails is raised here
# Of one cell; none takes a fifth of it. A kernel that lost its first message waits for ever, and gets another try.
SECONDS = 200
WIDGET = "application/vnd.jupyter.widget-view+json"


def executed(path: Path) -> NotebookNode:
    """The notebook with its outputs, without progress bars: they are gone when a run ends."""
    try:
        notebook = _run(path)
    except CellTimeoutError:
        notebook = _run(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
    return notebook


def _run(path: Path) -> NotebookNode:
    notebook, here = nbformat.read(path, as_version=4), {"metadata": {"path": path.parent}}
    client = NotebookClient(notebook, timeout=SECONDS, resources=here, extra_arguments=QUIET)
    return client.execute(env=os.environ | ENVIRONMENT)


def _is_progress(output: NotebookNode) -> bool:
    data = output.get("data", {})
    return WIDGET in data or data.get("text/plain") == ""


def page(notebook: NotebookNode, name: str) -> Iterator[tuple[str, str | bytes]]:
    """Path and content of the page, and of the figures on it."""
    text, resources = MarkdownExporter().from_notebook_node(notebook, resources={"unique_key": name})
    yield f"notebooks/{name}.md", text
    for figure, content in resources["outputs"].items():
        yield f"notebooks/{figure}", content


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by mkdocs with the files of the site."""
    execute = os.environ.get("EXECUTE_NOTEBOOKS", "true") != "false"
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = executed(path) if execute else nbformat.read(path, as_version=4)
        for place, content in page(notebook, path.stem):
            files.append(File.generated(config, place, content=content))
    return files
