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
    process = subprocess.Popen(
        [sys.executable, "-m", "sgdsim", "explore", "--no-browser", "--chains", "256"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    try:
        said = process.stdout.readline()
        found = re.match(r"http://127\.0\.0\.1:\d+/", said)
        assert found, said + process.stderr.read()
        yield found[0], process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.fixture
def served():
    """`with served() as (address, process)`: ended by Ctrl-C, unless it has ended."""
    return _served
