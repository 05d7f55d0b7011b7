"""Checkpoints: written beside the run, complete or not there, checked before they are believed."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import time
import warnings
from pathlib import Path

import numpy as np

from sgdsim import _checks
from sgdsim.engine.checkpoints.files import Found, newest, reason, write
from sgdsim.engine.plan.hosts import is_writer

# Writing may take this fraction of the time at most, however large the state is.
_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Where and how often `simulate` and `sweep` save what they need to go on after an interruption.

    Args:
        path: a folder of its own for each run; it is made if need be. Several hosts must all see it.
        seconds: save at the end of the first segment (about a second of work) that ends so long after the last save.
        steps: save too when so many steps were taken since the last save; None: by `seconds` alone.
        keep: how many checkpoints are kept; with 2, a damaged one can be replaced by the one before.
        name: of the run; needed where it calls back into Python, so that its program does not tell it from others.

    Raises:
        ValueError: a number is outside its range.

    Examples:
        >>> import sgdsim as ss
        >>> ss.Checkpoint("runs/first", seconds=30).keep
        2
    """

    path: str | os.PathLike[str]
    seconds: float = 2.0
    steps: int | None = None
    keep: int = 2
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike) or not str(self.path):
            raise _checks.error("checkpoint", self.path, "a path or ss.Checkpoint(path)", "try checkpoint='run'")
        object.__setattr__(self, "path", _checks.path("checkpoint", self.path))
        _checks.positive("seconds", self.seconds)
        if self.steps is not None:
            _checks.integer("steps", self.steps)
        _checks.integer("keep", self.keep, remedy="try keep=2")
        if not isinstance(self.name, str):
            raise _checks.error("name", self.name, "a string", "try name='first'")


def check_checkpoint(checkpoint: str | os.PathLike[str] | Checkpoint | None) -> Checkpoint | None:
    """A `Checkpoint` for what a user gave; its folder exists and can be written to."""
    if checkpoint is None:
        return None
    spec = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
    folder = Path(spec.path)
    if not is_writer():
        return spec
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as refused:
        raise _checks.error("checkpoint", str(folder), f"a folder that can be written to ({refused.strerror})",
                            "choose another folder") from None
    return spec


class Saver:
    """Saves one pass in a folder. Writing happens in a thread; what goes wrong there is a warning, not an error."""

    def __init__(self, spec: Checkpoint, folder: Path, identity: dict[str, str]):
        self._spec, self._folder, self._identity = spec, folder, identity
        self._thread = concurrent.futures.ThreadPoolExecutor(1) if is_writer() else None
        self._pending: concurrent.futures.Future[float] | None = None
        self._last = (time.monotonic(), 0)
        self._pause = 0.0
        self._warned = False

    def load(self) -> Found | None:
        """The newest intact checkpoint of this pass, or None; see `newest`."""
        found = newest(self._folder, self._identity)
        if found is not None:
            self._last = (time.monotonic(), found.step)
        return found

    def due(self, step: int) -> bool:
        """Whether it is time; never while the last one is being written."""
        if self._thread is None:
            return False
        if self._pending is not None:
            if not self._pending.done():
                return False
            self._settle()
        waited = time.monotonic() - self._last[0]
        by_steps = self._spec.steps is not None and step - self._last[1] >= self._spec.steps
        return by_steps or waited >= max(self._spec.seconds, self._pause)

    def save(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        """Begin to write; `arrays` must not change any more."""
        if self._thread is None:
            return
        self._settle()
        self._pending = self._thread.submit(write, self._folder, step, arrays, self._identity, self._spec.keep)
        self._last = (time.monotonic(), step)

    def close(self) -> None:
        """Wait for what is being written."""
        self._settle()
        if self._thread is not None:
            self._thread.shutdown()

    def _settle(self) -> None:
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            self._pause = pending.result() / _SHARE
        except Exception as failed:  # a full disk must not cost the run; the warning says what happened
            if not self._warned:
                warnings.warn(f"no checkpoint was written in {self._folder} ({reason(failed)}); the run goes on",
                              RuntimeWarning, stacklevel=2)
            self._warned = True
