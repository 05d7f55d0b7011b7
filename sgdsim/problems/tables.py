"""Read a regression table (CSV path, pandas or xarray) into arrays, naming the cell that is wrong."""

from __future__ import annotations

import difflib
import io
import numbers
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sgdsim import _checks

SEPARATORS = (",", ";", "\t", "|")
_QUOTED = re.compile(r'"[^"]*"')
_DECIMAL_COMMA = r"\s*[+-]?\d*,\d+(?:[eE][+-]?\d+)?\s*"
_THOUSANDS = r"\s*[+-]?[1-9]\d{0,2}(?:,\d{3})+\s*"
_POINTS = r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+"
_SHORT = r"[+-]?\d{1,3}"
_CODE = r"\s*[+-]?0\d+\s*"
# Begins with a character: a search for it is four times faster than for what stands before.
_LEADING_ZERO = re.compile(r'0(?:(?<=[\s,;|"]0)|(?<=[\s,;|"][+-]0))\d')
_POINTED = r"\s*[+-]?\d*\.\d[\d.,]*(?:[eE][+-]?\d+)?\s*"
# A float32 constant read as float64 varies by this share of its size.
_ROUNDING = 2.0**-23
_NAMES_SHOWN = 8
_MANY = 1000  # columns: looking for a near name takes seconds


def read_frame(table: Any) -> Any:
    """A pandas DataFrame from a CSV path, a DataFrame, or an xarray Dataset / 2-D DataArray.

    A file is UTF-8 text with a header row; commas, semicolons, tabs or bars separate its columns, whichever the first
    two lines agree on. Where they are no commas, numbers may have decimal commas.

    Raises:
        ValueError: there is no such file, or it is no such text.
        ImportError: pandas is missing.
    """
    pd = _checks.need("pandas", "data")
    if isinstance(table, str | os.PathLike):
        return _read_csv(_checks.path("table", table))
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


def _read_csv(path: Path) -> Any:
    pd = _checks.need("pandas", "data")
    if not path.is_file():
        raise _checks.error("table", _shown(path), "a readable CSV file", "check the path")
    raw = path.read_bytes()
    if b"\0" in raw:
        raise _broken(path, f"a NUL byte at position {raw.index(0)}: it is binary, UTF-16 or damaged")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        line = raw[: broken.start].count(b"\n") + 1
        raise _broken(path, f"line {line} has byte {raw[broken.start]:#04x}, which is not UTF-8") from None
    separator = _separator(text[: 2**20])
    options = {"sep": separator, "index_col": False, "skipinitialspace": True, "low_memory": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a first row that is longer than the header
            first = pd.read_csv(io.StringIO(text), header=None, nrows=1, dtype=str, keep_default_na=False, **options)
            names = [str(name).strip() for name in first.iloc[0]]
            _check_names(names)
            frame = pd.read_csv(io.StringIO(text), **options)
            if separator != ",":
                as_text = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, **options)
                if _decimal_commas(path, frame):
                    _check_no_points(as_text)
                    frame = pd.read_csv(io.StringIO(text), decimal=",", **options)
                _check_no_thousands(path, as_text)
            if _LEADING_ZERO.search(text):
                as_text = pd.read_csv(io.StringIO(text), dtype=str, **options)
                for name in frame.select_dtypes("number").columns:  # of them pandas has dropped leading zeros
                    _check_no_codes(as_text[name], str(name))
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning) as broken:
        raise _broken(path, str(broken)) from None
    frame.columns = names  # pandas renames duplicates and columns without a name
    return frame


def _separator(text: str) -> str:
    """The separator that the first two lines have equally often, else the one that the header has most of."""
    lines = [_QUOTED.sub("", line) for line in text.splitlines() if line.strip()][:2]
    header, first = (*lines, "", "")[:2]
    return max(SEPARATORS, key=lambda mark: (0 < header.count(mark) == first.count(mark), header.count(mark)))


def _broken(path: Path, why: str) -> ValueError:
    why = " ".join(why.split())[:120]
    return _checks.error("table", _shown(path), f"UTF-8 text of columns with a header row ({why})",
                         "open it in a spreadsheet and save it as CSV")


def _shown(path: Path) -> str:
    """The path as a complaint shows it: of a long one the end, where the name is."""
    text = str(path)
    return text if len(text) <= 55 else "..." + text[-52:]


def _check_names(names: list[str]) -> None:
    """Refuse a header with names missing or used twice, or one that is a row of numbers."""
    if "" in names and len(names) > 1:
        raise _checks.error("table header", names, f"a name for every column (column {names.index('') + 1} has none)",
                            "name it, or drop an index column")
    numbered = [str(i) for i in range(len(names))]
    if all(_is_number(name) for name in names) and names != numbered:
        raise _checks.error("table header", names, "names of columns", "the first row holds numbers: add a header row")
    _check_duplicates(names)


def _check_duplicates(names: list[str]) -> None:
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise _checks.error("table", twice, "without duplicate column names", "rename the columns")


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _decimal_commas(path: Path, frame: Any) -> bool:
    """Whether cells are numbers with decimal commas.

    Raises:
        ValueError: all of them could as well be commas between thousands.
    """
    cells = [frame[name].dropna().astype(str) for name in frame.columns if frame[name].dtype.kind not in "biuf"]
    found = [column[column.str.fullmatch(_DECIMAL_COMMA)] for column in cells]
    if not any(len(column) for column in found):
        return False
    if all(column.str.fullmatch(_THOUSANDS).all() for column in found):
        cell = next(column.iloc[0] for column in found if len(column))
        raise _checks.error("table", _shown(path), f"unambiguous: is {cell!r} a decimal comma, or thousands?",
                            "save it with decimal points, and without separators of thousands")
    return True


def _check_no_codes(cells: Iterable[object], name: str) -> None:
    """Refuse 007: it names something, and does not count."""
    codes = [cell for cell in cells if isinstance(cell, str) and re.fullmatch(_CODE, cell)]
    if codes:
        raise _checks.error(f"table column {name!r}", codes[0], "of numbers, which do not begin with 0",
                            "drop a column of identifiers; numbers are written without leading zeros")


def _check_no_points(frame: Any) -> None:
    """Refuse numbers with a point in a file whose numbers have decimal commas: it is a mark of thousands, or a slip."""
    for name in frame.columns:
        pointed = frame[name][frame[name].str.fullmatch(_POINTED)]
        if len(pointed):
            raise _checks.error(f"table row {int(pointed.index[0]) + 1}, column {str(name)!r}", pointed.iloc[0],
                                "a number with a decimal comma, as others of this file have",
                                "write all numbers with decimal points, and without separators of thousands")


def _check_no_thousands(path: Path, frame: Any) -> None:
    """Refuse columns such as 1.234, 950: all points may stand between thousands, where commas stand for points."""
    for name in frame.columns:
        cells = frame[name].str.strip()
        grouped, short = cells[cells.str.fullmatch(_POINTS)], cells.str.fullmatch(_SHORT)
        if len(grouped) and short.any() and len(grouped) + short.sum() == len(cells):
            raise _checks.error("table", _shown(path), f"unambiguous: is {grouped.iloc[0]!r} in column {str(name)!r} a "
                                "decimal point, or thousands?", "save it with commas between columns")


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
    _check_duplicates(columns)
    _check_target(str(target), columns)
    if len(columns) < 2:
        raise _checks.error("table", columns, "two columns or more", "it needs a feature beside the target")
    values = np.column_stack([_numeric(frame.iloc[:, i], name) for i, name in enumerate(columns)])
    where = columns.index(str(target))
    targets = values[:, where]
    if np.ptp(targets) == 0:
        raise _checks.error("target", str(target), "a column that varies", "a constant needs no regression")
    names = columns[:where] + columns[where + 1 :]
    return np.delete(values, where, axis=1), targets, names


def _check_target(target: str, columns: list[str]) -> None:
    """A target that is no column; of many columns only the nearest are shown."""
    if target in columns:
        return
    near = difflib.get_close_matches(target, columns, n=3, cutoff=0.4) if len(columns) < _MANY else []
    shown = [name if len(name) <= 40 else name[:37] + "..." for name in columns[:_NAMES_SHOWN]]
    more = f" ({len(columns)} in all)" if len(columns) > _NAMES_SHOWN else ""
    remedy = f"did you mean {' or '.join(map(repr, near))}?" if near else f"try {shown[0]!r}"
    raise _checks.error("target", target, f"one of the columns {', '.join(map(repr, shown))}{more}", remedy)


def _numeric(column: Any, name: str) -> np.ndarray:
    pd = _checks.need("pandas", "data")
    # pandas would count nanoseconds or periods, or drop the imaginary part.
    kind = getattr(column.dtype, "kind", "O")
    cells = [] if kind in "biuf" else list(column[~column.isna()])
    counted = [type(cell).__name__ for cell in cells if not isinstance(cell, str | numbers.Number | np.bool_)
               or isinstance(cell, complex | np.timedelta64)]
    if kind in "mMc" or counted:
        raise _checks.error(f"table column {name!r}", counted[0] if counted else str(column.dtype),
                            "a column of real numbers", "turn dates into numbers, such as days since the first")
    _check_no_codes(cells, name)
    if len({isinstance(cell, bool | np.bool_) for cell in cells}) > 1:
        raise _checks.error(f"table column {name!r}", "a mixture of True or False and others", "of one kind",
                            "write 0 and 1, and fill or drop missing cells")
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        row = int(bad[0])
        cell, remedy = column.iloc[row], "fill or drop missing cells and encode categories as numbers"
        if re.fullmatch(r"[\s\d.,'+-]*\d[\s\d.,'+-]*", str(cell)):
            remedy = "write it with a decimal point, and without separators of thousands"
        raise _checks.error(f"table row {row + 1}, column {name!r}", cell, "a finite number", remedy)
    # 2^53 itself may be the rounding of its neighbour.
    whole = [cell for cell in column[np.abs(values) >= _checks.EXACT] if isinstance(cell, int | np.integer)
             and abs(int(cell)) > _checks.EXACT]
    if whole:
        raise _checks.error(f"table column {name!r}", whole[0], "of whole numbers up to 2^53, which floating point "
                            "holds exactly", "subtract an offset, or drop a column of identifiers")
    return values


def standardize(features: np.ndarray, targets: np.ndarray, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Columns and targets with mean 0 and population standard deviation 1.

    Raises:
        ValueError: a column, or the target, is constant up to rounding.
    """
    columns = np.column_stack([features, targets])
    mean, spread = columns.mean(axis=0), columns.std(axis=0)
    constant = np.flatnonzero(spread <= _ROUNDING * np.abs(columns).max(axis=0))
    if constant.size:
        raise _checks.error("table column", [*names, "the target"][constant[0]],
                            "a column that varies by more than single precision resolves",
                            "drop it (the intercept already stands for a constant), or subtract an offset first")
    columns = (columns - mean) / spread
    return columns[:, :-1], columns[:, -1]
