"""TOML files whose complaints name the file, the line and the key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sgdsim import _checks

# A table header, or what stands before the "=" of a key.
_STATEMENT = re.compile(r"\s*(?:(\[\[?[^\]]*\]\]?)|[^=#]*=)")


class Document(NamedTuple):
    """A file that was read: where it is, its text and what the text says."""

    path: Path
    text: str
    content: dict[str, Any]

    def wrong(self, keys: Sequence[str], complaint: object) -> ValueError:
        """The complaint about the value at `keys`, with the place in front."""
        where = f"{self.path.name}, line {line_of(self.text, keys)}"
        return ValueError(f"{where}, {'.'.join(keys)}: {complaint}" if keys else f"{where}: {complaint}")


def read_toml(path: str | Path) -> Document:
    """Read a TOML file.

    Raises:
        ValueError: there is no such file, or it is no TOML; the message gives line and column.
    """
    path = _checks.path("file", path)
    if not path.is_file():
        raise _checks.error("file", str(path), "an existing TOML file", "print one with `sgdsim run --example`")
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as broken:
        line = broken.object[: broken.start].count(b"\n") + 1
        raise ValueError(f"{path.name}, line {line}: it must be UTF-8 text; save it as UTF-8") from None
    try:
        return Document(path, text, tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as broken:
        reason = "it is nested too deeply" if isinstance(broken, RecursionError) else broken
        raise ValueError(f"{path.name}: {reason}; it must be TOML: see `sgdsim run --example`") from None


def line_of(text: str, keys: Sequence[str]) -> int:
    """The line, from 1, on which the value at `keys` begins; of its table, where it has no line of its own.

    The TOML parser itself says so: a key stands on the first line whose beginning, after all lines before it, makes a
    document that holds the key.
    """
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        start = _STATEMENT.match(line)
        if keys and start and keys[-1] in start[0]:
            statement = start[0] if start[1] else f"{start[0]} 0"
            if _holds("\n".join([*lines[: number - 1], statement]), keys):
                return number
    return line_of(text, keys[:-1]) if len(keys) > 1 else 1


def _holds(text: str, keys: Sequence[str]) -> bool:
    try:
        found: object = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    for key in keys:
        if not isinstance(found, dict) or key not in found:
            return False
        found = found[key]
    return True
