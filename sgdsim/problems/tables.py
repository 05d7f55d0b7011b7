"""Read a regression table (CSV path, pandas or xarray) into arrays, naming the cell that is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from sgdsim import _checks


def read_frame(table: Any) -> Any:
    """A pandas DataFrame from a CSV path, a DataFrame, or an xarray Dataset / 2-D DataArray."""
    pd = _checks.need("pandas", "data")
    if isinstance(table, str | os.PathLike):
        path = Path(table)
        if not path.is_file():
            raise _checks.error("table", str(table), "a readable CSV file", "check the path")
        try:
            return pd.read_csv(path)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as broken:
            raise _checks.error(
                "table", str(path), f"a comma-separated UTF-8 file with a header row ({broken})",
                "open it in a spreadsheet and save it as CSV",
            ) from None
    if isinstance(table, pd.DataFrame):
        return table
    if hasattr(table, "to_pandas") and getattr(table, "ndim", 0) == 2:  # 2-D xarray.DataArray
        return table.to_pandas()
    if hasattr(table, "data_vars"):  # xarray.Dataset
        return table.to_dataframe().reset_index(drop=True)
    raise _checks.error(
        "table", type(table).__name__, "a CSV path, a pandas DataFrame or an xarray object",
        "pass arrays to DatasetRegression(features, targets) instead",
    )


def split_table(table: Any, target: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features (n, D), targets (n,) and feature names of a table.

    Raises:
        ValueError: the table is empty, the target is missing or constant, or a cell is not a finite number.
    """
    frame = read_frame(table)
    if frame.shape[0] == 0 or frame.shape[1] == 0:
        raise _checks.error("table", f"{frame.shape[0]} rows x {frame.shape[1]} columns", "non-empty",
                            "it needs a header and at least one row")
    columns = [str(name) for name in frame.columns]
    if len(set(columns)) < len(columns):
        twice = sorted({name for name in columns if columns.count(name) > 1})
        raise _checks.error("table", twice, "without duplicate column names", "rename the columns")
    _checks.choice("target", str(target), columns)
    if len(columns) < 2:
        raise _checks.error("table", columns, "two columns or more", "it needs a feature beside the target")
    values = np.column_stack([_numeric(frame.iloc[:, i], name) for i, name in enumerate(columns)])
    where = columns.index(str(target))
    targets = values[:, where]
    if np.ptp(targets) == 0:
        raise _checks.error("target", str(target), "a column that varies", "a constant needs no regression")
    names = columns[:where] + columns[where + 1 :]
    return np.delete(values, where, axis=1), targets, names


def _numeric(column: Any, name: str) -> np.ndarray:
    pd = _checks.need("pandas", "data")
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        row = int(bad[0])
        raise _checks.error(
            f"table row {row + 1}, column {name!r}", column.iloc[row], "a finite number",
            "fill or drop missing cells and encode categories as numbers",
        )
    return numbers


def standardize(features: np.ndarray, names: list[str]) -> np.ndarray:
    """Columns with mean 0 and population standard deviation 1.

    Raises:
        ValueError: a column is constant.
    """
    spread = features.std(axis=0)
    constant = np.flatnonzero(spread <= 1e-12 * np.abs(features).max(axis=0))
    if constant.size:
        raise _checks.error("table column", names[constant[0]], "a column that varies",
                            "drop it (the intercept already stands for a constant)")
    return (features - features.mean(axis=0)) / spread
