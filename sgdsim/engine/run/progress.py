"""A progress bar with the time left, for whatever lasts longer than two seconds."""

from __future__ import annotations

import importlib.util
import sys
import time
from typing import Any

_PATIENCE = 2.0


class ProgressBar:
    """Context manager; `show` None means: after two seconds, on a terminal (with rich) or notebook (and ipywidgets)."""

    def __init__(self, total: int, label: str, show: bool | None):
        self._total, self._label = total, label
        self._wanted = _interactive() if show is None else show
        self._begun = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> ProgressBar:
        return self

    def update(self, done: int) -> None:
        """`done` of the total are finished."""
        if self._bar is None and self._wanted and time.monotonic() - self._begun > _PATIENCE:
            self._start()
        if self._bar is not None:
            self._bar.update(self._task, completed=done)

    def _start(self) -> None:
        try:
            from rich import console, progress
        except ImportError:
            self._wanted = False
            return
        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TimeRemainingColumn(),
        )
        # What a script prints may go to a file: the bar stays out of it.
        self._bar = progress.Progress(*columns, console=console.Console(stderr=True), transient=True)
        self._bar.start()
        self._task = self._bar.add_task(self._label, total=self._total)
        # The clock began before the bar was shown: without this the time left would be too short.
        self._bar.tasks[0].start_time -= time.monotonic() - self._begun

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _interactive() -> bool:
    return sys.stderr.isatty() or (_in_notebook() and importlib.util.find_spec("ipywidgets") is not None)


def _in_notebook() -> bool:
    """Whether this process is a kernel; one that starts kernels has imported the same modules."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
