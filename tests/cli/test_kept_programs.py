"""Compiled programs are kept from one command to the next, where the user wants it and a folder lets it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

pytest.importorskip("typer")

from sgdsim.cli.kept_programs import FOLDER, SWITCH, keep_programs
from sgdsim.cli.machine import where_kept

SIMULATE = """
import json, sys, time
from sgdsim.cli.kept_programs import keep_programs
keep_programs()
import sgdsim as ss, jax
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
r = ss.simulate(ss.LinearRegression([1.0, 0.5]), ss.SGD(0.1), batch_size=4, chains=64, steps=200, burn_in=100, seed=1)
print(hits.count("/jax/compilation_cache/cache_hits"), r.final.tobytes().hex())
"""


@pytest.fixture
def clean(tmp_path):
    """No settings of the user's, and a folder for caches."""
    before = dict(os.environ)
    for name in [name for name in before if "CACHE" in name]:
        del os.environ[name]
    os.environ["XDG_CACHE_HOME"] = str(tmp_path)
    yield tmp_path / "sgdsim" / "programs"
    os.environ.clear()
    os.environ.update(before)


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    hits, final = done.stdout.split()
    return int(hits), final, done.stderr


def test_a_second_process_compiles_nothing_and_gives_the_same_bits(clean):
    cold, first, _ = run(SIMULATE)
    assert cold == 0 and list(clean.iterdir())
    warm, second, said = run(SIMULATE)
    assert warm > 0 and second == first and not said


def test_doctor_says_where(clean):
    command = [sys.executable, "-m", "sgdsim", "doctor", "--json"]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["compiled programs"]
    assert str(clean) in said and SWITCH in said


def test_jax_own_variable_switches_it_off():
    before = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        assert where_kept() == f"switched off by {SWITCH}"
    finally:
        jax.config.update("jax_enable_compilation_cache", before)


def test_the_users_own_folder_stays(clean, tmp_path):
    os.environ[FOLDER] = str(tmp_path / "mine")
    keep_programs()
    assert os.environ[FOLDER] == str(tmp_path / "mine") and not clean.exists()


def test_without_a_folder_nothing_is_kept_and_nothing_fails(clean, tmp_path):
    Path(tmp_path / "file").touch()
    os.environ["XDG_CACHE_HOME"] = str(tmp_path / "file")
    keep_programs()
    assert FOLDER not in os.environ
