"""What a shell offers when Tab is pressed. It waits meanwhile: nothing here imports what computes."""

from __future__ import annotations

import re
from pathlib import Path

SCALES = ("smoke", "laptop", "full")
_DECLARED = re.compile(r'^@experiment\(\s*"(\w+)",\s*"([^"]+)"', flags=re.MULTILINE)


def experiments(incomplete: str) -> list[tuple[str, str]]:
    """Names and titles of the experiments that begin so, as their files declare them."""
    files = (Path(__file__).parents[1] / "experiments").rglob("*.py")
    declared = [pair for file in files for pair in _DECLARED.findall(file.read_text(encoding="utf-8"))]
    return sorted(pair for pair in declared if pair[0].startswith(incomplete))


def scales(incomplete: str) -> list[str]:
    """Names of the scales that begin so."""
    return [name for name in SCALES if name.startswith(incomplete)]
