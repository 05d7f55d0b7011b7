"""Findings as files: figures, data.json, data.nc and the section of the report."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim import _checks
from sgdsim.comparisons.comparison import row_to_dict
from sgdsim.experiments.framework.findings import Findings

if TYPE_CHECKING:
    import xarray as xr


def check_writing() -> None:
    """Ask for what files need, before anything is computed that would be lost.

    Raises:
        ImportError: matplotlib, xarray or h5netcdf is missing.
    """
    for module, extra in (("matplotlib", "plots"), ("xarray", "results"), ("h5netcdf", "results")):
        _checks.need(module, extra)


def write(
    findings: Findings, folder: str | Path, *, id: str, title: str, reference: str, scale: str, seconds: float
) -> Path:
    """Write everything about one experiment into a folder.

    Args:
        findings: what was found.
        folder: made if missing; files of an earlier run are replaced.
        id: name of the experiment.
        title: heading in the report.
        reference: where it was published.
        scale: name of the scale.
        seconds: how long it took.

    Raises:
        ImportError: matplotlib, xarray or h5netcdf is missing.
    """
    with all_or_nothing(folder) as place:
        _write(findings, place, {"id": id, "title": title, "reference": reference, "scale": scale,
                                 "seconds": round(seconds, 2)})  # fmt: skip
    return _checks.path("folder", folder)


@contextlib.contextmanager
def all_or_nothing(folder: str | Path) -> Iterator[Path]:
    """A hidden folder beside `folder`, whose files move there at the end; after an exception nothing has changed."""
    folder = _checks.path("folder", folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield temporary
        folder.mkdir(exist_ok=True)
        for path in sorted(temporary.iterdir()):
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(findings: Findings, folder: Path, head: Mapping[str, object]) -> None:
    figures = []
    for figure in findings.figures:
        name = f"{figure.name}.png"
        figure.draw().savefig(folder / name, dpi=150)
        figures.append({"file": name, "caption": figure.caption})
    verdicts = [{"setting": setting, **row_to_dict(row)} for setting, row in findings.verdicts]
    provenance = plain(dict(findings.provenance))
    data = {
        name: {"dims": list(dims), "values": plain(np.asarray(values))}
        for name, (dims, values) in findings.data.items()
    }
    dump(folder / "data.json", {**head, "data": data, "verdicts": verdicts, "provenance": provenance})
    dump(
        folder / "section.json",
        {
            **head,
            "summary": list(findings.summary),
            "tables": [
                {"title": t.title, "header": list(t.header), "rows": [list(r) for r in t.rows]} for t in findings.tables
            ],
            "verdicts": verdicts,
            "figures": figures,
            "provenance": provenance,
        },
    )
    dataset = to_dataset(findings, {**head, "provenance": json.dumps(provenance)})
    dataset.to_netcdf(folder / "data.nc", engine="h5netcdf")


def to_dataset(findings: Findings, attributes: Mapping[str, object]) -> xr.Dataset:
    """Return the data of an experiment as an `xarray.Dataset`.

    Raises:
        ImportError: xarray is missing.
    """
    xr = _checks.need("xarray", "results")
    coordinates = {name: v for name, v in findings.data.items() if v[0] == (name,)}
    variables = {name: v for name, v in findings.data.items() if name not in coordinates}
    return xr.Dataset(variables, coordinates, dict(attributes))


def plain(value: object) -> Any:
    """Return `value` with NumPy numbers as Python's, and None for what is not finite (JSON has no NaN)."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def dump(path: Path, content: object) -> None:
    """Write JSON, which has no NaN: see `plain`."""
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
