"""Programs that were compiled once are kept for the next command: JAX's persistent cache, in the user's own folder."""

from __future__ import annotations

import os
from pathlib import Path

# JAX's own variables, read as it starts: a folder, and what is worth keeping.
FOLDER = "JAX_COMPILATION_CACHE_DIR"
SWITCH = "JAX_ENABLE_COMPILATION_CACHE"
_DEFAULTS = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


def keep_programs() -> None:
    """Have JAX, which has not started, keep what it compiles: where the user said, or in the user's cache."""
    if not os.environ.get(FOLDER):
        try:
            folder = _cache() / "sgdsim" / "programs"
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError):  # read-only, or no home: a cache is no reason to fail
            return
        if not os.access(folder, os.W_OK):
            return
        os.environ[FOLDER] = str(folder)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
