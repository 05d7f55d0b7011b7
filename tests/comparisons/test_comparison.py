import re
from xml.etree import ElementTree

import numpy as np
import pytest

from sgdsim.comparisons.comparison import Comparison, Row
from sgdsim.comparisons.judge import judge
from sgdsim.comparisons.tables import latex


def report(*names, note=""):
    names = names or ("mean[0]", "noise_covariance[0,1]", "a|b & 5%_<i>~^\\{#$", "[b] starts a row")
    rows = [judge(name, 1.5e-5 * (i - 1), 2e-7, -1.4e-5, note=note) for i, name in enumerate(names)]
    return Comparison(rows, {}, 0.01, "", "stationary.md <section 3>", "exact")


def test_latex_is_a_booktabs_table_with_everything_escaped():
    text = report(note="50% & more_\nlines").to_latex()
    lines = text.splitlines()
    assert [line for line in lines if "rule" in line] == ["\\toprule", "\\midrule", "\\bottomrule"]
    assert lines[1] == "\\begin{tabular}{lrrrrrl}" and "% note: 50% & more_ lines" in lines
    rows = [line for line in lines if line.endswith(r" \\")]
    assert len(rows) == 5 and all(len(re.split(r"(?<!\\)&", row)) == 7 for row in rows)
    assert r"a$|$b \& 5\%\_$<$i$>$\textasciitilde{}\textasciicircum{}\textbackslash{}\{\#\$" in text
    assert rows[2].startswith(r"noise\_covariance[0,1]") and rows[4].startswith("{}[b]")
    assert r"$-1.5 \times 10^{-5}$" in text and text.replace(r"\$", "").count("$") % 2 == 0
    for line in rows:  # nothing special is left outside commands
        bare = re.sub(r"\\[&%#$_{}]|\\[a-z]+(\{\})?|\$[^$]*\$|^\{\}", "", line.removesuffix(r" \\"))
        assert not re.search(r"[%#$_{}~^\\]", bare), bare


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("0", "$0$"),
        ("-1.50", "$-1.50$"),
        ("+12.5%", r"$+12.5$\%"),
        ("2.5e-07", r"$2.5 \times 10^{-7}$"),
        ("1e+10", r"$1 \times 10^{10}$"),
        ("inf", r"$\infty$"),
        ("-inf", r"$-\infty$"),
        ("nan", "nan"),
        ("-", "-"),
        ("1.5 to 2", "1.5 to 2"),
        ("e5", "e5"),
    ],
)
def test_cells_of_latex(cell, text):
    assert latex(cell) == text


def test_markdown_has_as_many_cells_whatever_the_names():
    lines = report().to_markdown().splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {8}
    assert r"a\|b & 5%_&lt;i>~^\\{#$" in lines[4] and "noise_covariance[0,1]" in lines[3]
    noted = report(note="why | not").to_markdown()
    assert noted.splitlines()[-1] == r"Note: why \| not"


def test_dataframe():
    pytest.importorskip("pandas")
    frame = report("x", "y").to_dataframe()
    assert list(frame.columns) == list(Row._fields) and frame["quantity"].tolist() == ["x", "y"]
    assert frame["simulated"].dtype == np.float64 and frame["verdict"].iloc[0] in ("agree", "disagree")
    assert Comparison([], {}, 0.01, "", "", "exact").to_dataframe().columns.tolist() == list(Row._fields)


def test_html():
    html = report(note="p < 0.01")._repr_html_()
    ElementTree.fromstring(html)
    assert "<i>" not in html and "&lt;i&gt;" in html and "p &lt; 0.01" in html
    assert "background" not in html and "color:" not in html.replace("currentColor", "")
    wrong = Comparison([judge("x", 2.0, 0.01, 1.0)], {}, 0.01, "", "", "exact")._repr_html_()
    assert "<strong>disagree</strong>" in wrong and "1 disagree" in wrong


def test_repr_is_the_count_and_the_table():
    text = repr(report("x"))
    assert text.startswith("Comparison(1 ") and "; exact)" in text and "quantity" in text.splitlines()[1]
    assert "nothing to compare" in repr(Comparison([], {}, 0.01, "", "", "exact"))
