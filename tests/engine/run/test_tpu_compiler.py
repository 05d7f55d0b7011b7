"""What the compiler for TPUs says of a pod that is not there; `make bench-tpu` has the compiler and runs it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[3] / "bench" / "tpu.py"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu: make bench-tpu"),
]


@pytest.mark.parametrize(
    ("case", "temporaries", "ratio"),
    [
        ("Gaussian, D=10, SGD, many steps", 64, 1.45),
        ("Gaussian, D=10, SGD", 64, 4.2),
        ("data set, replaced, SGD", 128, None),
    ],
)
def test_a_pod_compiles_without_collectives(case, temporaries, ratio):
    done = subprocess.run([sys.executable, str(BENCH), "--row", case], capture_output=True, text=True, check=True)
    row = [cell.strip() for cell in done.stdout.splitlines()[-1].split("|")]
    assert row[0] == case and row[2] == "0", row
    assert 0 <= float(row[4]) < temporaries, row  # MiB of a chip
    assert ratio is None or 1 < float(row[7]) < ratio, row
