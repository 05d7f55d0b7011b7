"""`::: sgdsim.solver.limits.stability` means the function, as in Python, although its module has the same name."""

from __future__ import annotations

import importlib
import re
from functools import reduce

_NAME = re.compile(r"^::: sgdsim\.(\S+)$", re.MULTILINE)


def defined_at(name: str) -> str:
    """Module and name where `sgdsim.name` is defined."""
    found = reduce(getattr, name.split("."), importlib.import_module("sgdsim"))
    return f"{found.__module__}.{found.__qualname__}"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by mkdocs with the text of each page."""
    return _NAME.sub(lambda match: f"::: {defined_at(match[1])}", markdown)
