"""Damaged and unusual tables: read as meant, or refused with a name for what is wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sgdsim.problems.tables import split_table

FEATURES, TARGETS = [[1.5], [-2.0]], [2.0, 4.0]

READ = {
    "plain": b"a,y\n1.5,2\n-2,4\n",
    "byte order mark": b"\xef\xbb\xbfa,y\n1.5,2\n-2,4\n",
    "semicolons": b"a;y\n1.5;2\n-2;4\n",
    "tabs": b"a\ty\n1.5\t2\n-2\t4\n",
    "bars": b"a|y\n1.5|2\n-2|4\n",
    "semicolons and decimal commas": b"a;y\n1,5;2\n-2;4,0\n",
    "tabs and decimal commas": b"a\ty\n1,5\t2\n-2,000\t4\n",
    "quotes": b'"a","y"\n"1.5","2"\n"-2","4"\n',
    "spaces": b"a, y \n 1.5, 2\n-2 ,4 \n",
    "empty lines": b"\n\na,y\n\n1.5,2\n\n\n-2,4\n\n",
    "Windows line ends": b"a,y\r\n1.5,2\r\n-2,4\r\n",
    "mixed line ends": b"a,y\r\n1.5,2\n-2,4\r",
    "no last line end": b"a,y\n1.5,2\n-2,4",
    "exponents": b"a,y\n15e-1,2\n-2E0,4\n",
}


@pytest.mark.parametrize("name", READ)
def test_the_same_table_in_many_forms(name, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(READ[name])
    features, targets, names = split_table(path, "y")
    np.testing.assert_array_equal(features, FEATURES)
    np.testing.assert_array_equal(targets, TARGETS)
    assert names == ["a"]


@pytest.mark.parametrize("name", ["b, c", 'b"c', "b\nc", "b;c;d;e", "<script>", "é"])
def test_names_of_columns_may_be_anything(name, tmp_path):
    path = tmp_path / "table.csv"
    pd.DataFrame({name: [1.5, -2.0], "y": TARGETS}).to_csv(path, index=False)
    assert split_table(path, "y")[2] == [name]


REFUSED = {
    "thousands": (b'a,y\n"1,234.5",2\n2,4\n', ("row 1, column 'a'", "'1,234.5'", "thousands")),
    "a code": (b"a,y\n007,2\n012,4\n", ("column 'a' is '007'", "identifiers")),
    "a code beside fractions": (b"a,y\n-007,2\n0.5,4\n", ("column 'a' is '-007'", "identifiers")),
    "a code beside decimal commas": (b"a;y\n007;2\n0,5;4\n", ("column 'a' is '007'", "identifiers")),
    "a code in quotes": (b'a;y\n"1";2\n" 012";4\n', ("column 'a'", "identifiers")),
    "a code among text": (b"a,y\n007,2\nx12,4\n", ("column 'a' is '007'", "identifiers")),
    "thousands without a point": (b'a,y\n"1,234",2\n2,4\n', ("row 1, column 'a'", "thousands")),
    "apostrophes": (b"a,y\n1'234,2\n2,4\n", ("row 1, column 'a'", "thousands")),
    "decimal comma or thousands": (b"a;y\n1,234;2\n2,345;4\n", ("unambiguous", "'1,234'", "thousands")),
    "commas and points": (b"a;y\n1,5;2\n2.5;4\n", ("column 'a'", "decimal point")),
    "one column": (b"y\n1\n2\n", ("['y']", "two columns")),
    "duplicate names": (b"a,a,y\n1,2,3\n4,5,6\n", ("['a']", "duplicate")),
    "duplicate names that pandas renames": (b"a,a.1,a,y\n1,2,3,4\n5,6,7,8\n", ("['a']", "duplicate")),
    "Latin-1": ("a,é,y\n1,2,3\n".encode("latin-1"), ("line 1", "0xe9", "UTF-8")),
    "Latin-1 below": ("a,y\n1,2\n3,é\n".encode("latin-1"), ("line 3", "0xe9", "UTF-8")),
    "UTF-16": ("a,y\n1,2\n".encode("utf-16"), ("NUL", "UTF-16")),
    "NUL byte": (b"a,y\n1,\x002\n3,4\n", ("NUL byte at position 6",)),
    "a row too long": (b"a,y\n1,2\n3,4,5\n", ("line 3", "Expected 2 fields")),
    "first row too long": (b"a,y\n1,2,3\n3,4,5\n", ("Length of header",)),
    "a row too short": (b"a,b,y\n1,2,3\n3,4\n", ("row 2, column 'y'", "nan")),
    "no header": (b"1.5,2\n3,4\n5,6\n", ("header", "first row holds numbers")),
    "index without a name": (b",a,y\n0,1,2\n1,3,4\n", ("column 1 has none", "index")),
    "separator at the end": (b"a,y,\n1,2,\n3,4,\n", ("column 3 has none",)),
    "huge field": (b"a,y\n" + b"x" * 1_000_000 + b",2\n3,4\n", ("row 1, column 'a'", "xxx...")),
    "huge number": (b"a,y\n" + b"9" * 10_000 + b",2\n3,4\n", ("row 1, column 'a'", "999...")),
    "huge name": (b"a" * 1_000_000 + b",z\n1,2\n3,4\n", ("target is 'y'", "aaa...")),
    "open quote": (b'a,y\n"1,2\n3,4\n', ("EOF inside string",)),
    "infinite": (b"a,y\n1,2\ninf,4\n", ("row 2, column 'a' is inf",)),
    "beyond double precision": (b"a,y\n1,2\n1e999,4\n", ("row 2, column 'a' is inf",)),
    "missing": (b"a,y\nNA,2\n3,4\n", ("row 1, column 'a' is nan", "missing")),
    "text": (b"a,y\nred,2\n3,4\n", ("row 1, column 'a' is 'red'", "encode")),
    "dates": (b"a,y\n2020-01-01,2\n2020-01-02,4\n", ("row 1, column 'a' is '2020-01-01'",)),
    "nothing": (b"", ("header row",)),
    "nothing but lines": (b"\n \n\n", ("header row",)),
    "only a header": (b"a,y\n", ("0 rows",)),
    "separated by spaces": (b"a y\n1 2\n3 4\n", ("target is 'y'", "'a y'")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_named(name, tmp_path):
    content, says = REFUSED[name]
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=", but it must be ") as caught:
        split_table(path, "y")
    message = str(caught.value)
    assert type(caught.value) is ValueError and "\n" not in message and len(message) < 500
    for text in says:
        assert text in message, message


def test_a_million_rows(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"a,y\n" + b"1,2\n2,3.5\n" * 500_000)
    features, targets, _ = split_table(path, "y")
    assert features.shape == (1_000_000, 1) and targets.sum() == 2_750_000
    with open(path, "ab") as file:
        file.write(b"3,oops\n")
    with pytest.raises(ValueError, match=r"row 1000001, column 'y' is 'oops'"):
        split_table(path, "y")


def test_thousands_of_columns_are_not_all_printed(tmp_path):
    frame = pd.DataFrame(np.eye(3, 3000), columns=[f"c{i}" for i in range(3000)])
    with pytest.raises(ValueError, match=r"\(3000 in all\)") as caught:
        split_table(frame, "c")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "column",
    [pd.to_datetime(["2020-01-01", "2020-01-02"]), pd.to_timedelta([1, 2], "s"), [1j, 2j], ["a", "b"], [None, 1.0]],
)
def test_columns_of_a_frame_that_are_no_numbers(column):
    with pytest.raises(ValueError, match="column 'a'"):
        split_table(pd.DataFrame({"a": column, "y": TARGETS}), "y")


@pytest.mark.parametrize(
    ("column", "said"), [(["007", "12"], "'007'"), ([True, 2], "of one kind"), ([np.False_, 0.5], "of one kind")]
)
def test_cells_of_two_meanings(column, said):
    with pytest.raises(ValueError, match=f"column 'a' is .*{said}"):
        split_table(pd.DataFrame({"a": pd.Series(column, dtype=object), "y": TARGETS}), "y")
    both = pd.DataFrame({"a": pd.Series([True, False], dtype=object), "y": TARGETS})
    np.testing.assert_array_equal(split_table(both, "y")[0], [[1.0], [0.0]])


def test_columns_that_are_numbered(tmp_path):
    path = tmp_path / "table.csv"
    pd.DataFrame([[1.5, 2.0], [-2.0, 4.0]]).to_csv(path, index=False)
    features, targets, names = split_table(path, "1")
    assert names == ["0"] and features.tolist() == FEATURES and targets.tolist() == TARGETS
