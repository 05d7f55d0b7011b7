"""What the HTML tables of results share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from sgdsim._labels import LABELS, brief


def quantity_rows(quantities: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> list[tuple[str, str, str, str]]:
    """Name, value, standard error and description of each measured quantity."""
    return [
        (name, brief(value), brief(stderr, 2), LABELS[name].description if name in LABELS else "")
        for name, (value, stderr) in quantities.items()
    ]


def origin(provenance: Mapping[str, Any]) -> str:
    """Seed, number type, sampling, date and versions, in one line."""
    said = [f"{name} {provenance[name]}" for name in ("seed", "dtype", "sampling", "date") if name in provenance]
    return ", ".join([*said, *(f"{name} {version}" for name, version in provenance.get("versions", {}).items())])
