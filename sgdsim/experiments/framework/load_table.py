"""Read and vet the table that `analyze` is given."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sgdsim import _checks
from sgdsim.problems.tables import read_frame

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    Table: TypeAlias = str | os.PathLike[str] | pd.DataFrame | xr.Dataset | xr.DataArray

DIABETES = "diabetes"


def load(table: Table, target: str | None) -> tuple[pd.DataFrame, str, str]:
    """Return a DataFrame, the name of its target column and a name for the folder.

    Raises:
        ValueError: the target is not named, or the table cannot be read.
        ImportError: scikit-learn is missing and the table is "diabetes".
    """
    if isinstance(table, str) and table == DIABETES and not Path(table).exists():
        try:
            from sklearn.datasets import load_diabetes
        except ImportError as missing:
            raise ImportError("the diabetes table needs scikit-learn; pip install 'sgdsim[data]'") from missing
        return load_diabetes(as_frame=True, scaled=False).frame, target or "target", DIABETES
    frame = read_frame(table)
    if target is None:
        columns = [str(name) for name in frame.columns]
        raise _checks.error(
            "target", None, f"one of the columns {', '.join(map(repr, columns[:8]))}", "pass --target COLUMN"
        )
    name = Path(table).stem if isinstance(table, str | os.PathLike) else "table"
    return frame, target, re.sub(r"[^\w.-]+", "_", name).strip("._") or "table"


def parameter_names(frame: pd.DataFrame, target: str, intercept: bool) -> list[str]:
    """Return the feature columns in order, and "intercept" where there is one."""
    return [str(name) for name in frame.columns if str(name) != target] + ["(intercept)"] * intercept
