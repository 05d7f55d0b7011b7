"""`sgdsim explore` as a process of its own."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys

import pytest


@contextlib.contextmanager
def _served():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and theirs
    process = subprocess.Popen(
        [sys.executable, "-m", "sgdsim", "explore", "--no-browser", "--chains", "256"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    signal.signal(signal.SIGINT, before)
    try:
        said = process.stdout.readline()
        found = re.match(r"http://127\.0\.0\.1:\d+/", said)
        assert found, said + process.stderr.read()
        yield found[0], process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def served():
    """`with served() as (address, process)`: nothing of it is left behind."""
    return _served
