"""What the page says."""

from __future__ import annotations

import math

import numpy as np

from sgdsim.comparisons.judge import judge
from sgdsim.explore import table
from sgdsim.explore.model import ShownLaw, Simulated, Theory

LAW = ShownLaw(np.eye(2), {"test_loss": 1.0, "trace": 2.0}, np.zeros((2, 3)))


def test_nothing_in_a_message_becomes_markup():
    said = table.problem("<script>alert(1)</script>")
    assert "<script>" not in said and "&lt;script&gt;" in said


def test_every_row_has_its_z_and_its_verdict():
    rows = [judge("test_loss", 1, 0.01, 1.01), judge("train_loss", 1, 0.01, 1.2), judge("x", 1, 0.1, 1, note="<why>")]
    said = table.comparison(rows)
    assert "-1.00" in said and "-20.00" in said
    assert said.count(">agree<") == said.count(">disagree<") == said.count(">underpowered<") == 1
    assert "&lt;why&gt;" in said
    assert "no prediction" in table.comparison([])


def test_the_line_on_top_says_where_the_rate_stands():
    below = table.standing(Theory(0.5, 1.0, 2.0, {"exact": LAW}))
    assert "0.5 × the limit" in below and "does not exist" not in below
    past = Theory(1.5, 1.0, 2.0, {})
    assert "does not exist" in table.standing(past) and "looking" in table.standing(past)
    assert "of tail index 1.3" in table.standing(past, "a law of tail index 1.3")


def test_diverged_chains_are_counted():
    nan = {"test_loss": math.nan, "trace": math.nan}
    found = Simulated(np.zeros((0, 2)), np.zeros((2, 0)), nan, nan, {}, 4096, 400, 100, 3, 0.25)
    assert "4,096 chains, 400 steps" in table.run(found) and "3 chains diverged" in table.run(found)
