"""The numbers on the pages are those that the library gives today."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
sys.path.insert(0, str(DOCS / "_numbers"))
import runs  # noqa: E402, F401
import theory  # noqa: E402, F401
from printed import SOURCES, Said, corrected, differences, printed_like  # noqa: E402

FAST = 5  # seconds


# How often intervals cover is left to `python docs/_numbers`: it takes a quarter of an hour for each table.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (source.seconds > FAST)) for name, source in SOURCES.items()]
)
def test_a_page_prints_what_the_library_gives(name):
    source = SOURCES[name]
    page = (DOCS / source.page).read_text(encoding="utf-8")
    wrong = [(said.text, *found) for said in source.make() for found in differences(page, said)]
    assert not wrong, f"python docs/_numbers {name} --write corrects {wrong}"


PAGE = "It is\n2.50 at once.\n\n| rate | value |\n| --- | --- |\n| 0.1 | -.031 ± .004 |\n"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (Said("It is {} at once", (2.504,)), []),
        (Said("It is {} at once", (2.506,)), [("2.50", 2.506)]),
        (Said("It is {} at once", (2.50 * 1.03,)), [("2.50", 2.575)]),
        (Said("It is {} at once", (float("nan"),)), [("2.50", pytest.approx(float("nan"), nan_ok=True))]),
        (Said("| 0.1 | {} ± {} |", (-0.031, 0.004)), []),
        (Said("| 0.1 | {} ± {} |", (-0.035, 0.0042), (0.004, 0.0)), []),
        (Said("| 0.1 | {} ± {} |", (-0.050, 0.004), (0.004, 0.0)), [("-.031", -0.050)]),
    ],
)
def test_what_differs_is_found(said, found):
    assert list(differences(PAGE, said)) == found


def test_a_page_is_corrected_in_its_own_style():
    assert corrected(PAGE, Said("| 0.1 | {} ± {} |", (-0.0476, 0.0041))) == PAGE.replace("-.031", "-.048")
    assert [printed_like("+.03", 0.049), printed_like("8.4e-05", 7.26e-6), printed_like("+1.38", 1.2)] == [
        "+.05", "7.3e-06", "+1.20"]  # fmt: skip
    with pytest.raises(LookupError, match="no longer says"):
        corrected(PAGE, Said("It was {}", (1.0,)))
