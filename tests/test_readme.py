"""What the README shows is what a reader gets."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from typer.main import get_command

from sgdsim.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def blocks():
    """Every Python block with what it printed and the text block that follows it, run in order in one namespace."""
    found, namespace = [], {}
    fences = FENCE.findall(README)
    for i, (language, code) in enumerate(fences):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"README.md, block {i}", "exec"), namespace)
        shown = fences[i + 1][1] if i + 1 < len(fences) and fences[i + 1][0] == "text" else None
        found.append((code, printed.getvalue(), shown))
    return found


def test_every_python_block_runs(blocks):
    assert len(blocks) >= 2


def test_the_example_has_eight_lines(blocks):
    assert len([line for line in blocks[0][0].splitlines() if line.strip()]) <= 8


def test_the_output_shown_is_the_output_printed(blocks):
    """Same columns, predictions and verdicts; simulated digits may differ between versions of JAX."""
    for _, printed, shown in blocks:
        assert shown is not None
        said, wrote = (text.rstrip().splitlines() for text in (printed, shown))
        assert said[0].split() == wrote[0].split()
        assert len(said) == len(wrote)
        for ours, theirs in zip(said[2:], wrote[2:], strict=True):
            assert ours.split("[")[0].split()[0] == theirs.split("[")[0].split()[0]
            assert ours.split()[-1] == theirs.split()[-1]


def test_commands_exist():
    """Targets of make, and commands of sgdsim with their options; `make` itself runs what stands behind them."""
    makefile, known = (ROOT / "Makefile").read_text(encoding="utf-8"), get_command(app).commands
    lines = [line.split("#")[0].split() for language, code in FENCE.findall(README) if language == "bash"
             for line in code.splitlines()]
    assert {words[0] for words in lines if words} == {"make", "sgdsim"}
    for program, name, *rest in filter(None, lines):
        if program == "make":
            assert re.search(rf"^{name}:", makefile, re.MULTILINE), name
        else:
            options = {option for parameter in known[name].params for option in parameter.opts}
            assert {word for word in rest if word.startswith("--")} <= options


def test_a_reader_is_through_in_three_minutes():
    assert len(README.split()) <= 600


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
