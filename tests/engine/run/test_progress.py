"""The bar: when it shows, and where."""

import sys
import time
import types

import pytest

from sgdsim.engine.run import progress
from sgdsim.engine.run.progress import ProgressBar


def slow_loop(monkeypatch, show=None):
    """Two updates, the second of them three seconds after the beginning by the clock."""
    clock = iter([0.0, *[3.0] * 50])
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    with ProgressBar(10, "simulate", show) as bar:
        bar.update(1)
        bar.update(10)


def test_it_writes_to_standard_error_alone(monkeypatch, capsys):
    pytest.importorskip("rich")
    slow_loop(monkeypatch, show=True)
    said = capsys.readouterr()
    assert said.out == "" and said.err  # of a bar that goes again a line is left where there is no terminal


@pytest.mark.parametrize(("shell", "shown"), [(None, False), (types.SimpleNamespace(), False),
                                              (types.SimpleNamespace(kernel=1), True)])
def test_it_shows_in_a_notebook_but_not_where_one_was_only_imported(monkeypatch, shell, shown):
    pytest.importorskip("ipywidgets")
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "ipykernel", types.SimpleNamespace())
    assert progress._interactive() is shown


def test_nothing_is_shown_before_two_seconds(capsys):
    begun = time.monotonic()
    with ProgressBar(10, "simulate", True) as bar:
        bar.update(5)
    assert time.monotonic() - begun < 2 and capsys.readouterr() == ("", "")
