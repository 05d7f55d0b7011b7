"""Widgets and where answers go, in a document without a browser."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("bokeh")

from bokeh.document import Document
from bokeh.events import ButtonClick

from sgdsim.explore.page import Page


class AtOnce:
    """An executor that does the work where it is asked."""

    def submit(self, work, *arguments):
        work(*arguments)


class Never:
    """An executor that only counts."""

    asked = 0

    def submit(self, work, *arguments):
        self.asked += 1


@pytest.fixture
def tab():
    """`(document, settle, simulations)`: a page that never simulates; `settle()` runs what waits for its thread."""
    document, simulations = Document(), Never()
    Page(document, 256, AtOnce(), simulations)
    return document, settler(document), simulations


def settler(document):
    def settle():
        while document.session_callbacks:
            waiting = document.session_callbacks[0]
            document.remove_next_tick_callback(waiting)
            waiting.callback()
        return document.get_model_by_name("standing").text

    return settle


def test_the_learning_rate_moved_last_is_held_and_the_other_follows(tab):
    document, settle, _ = tab
    find = document.get_model_by_name
    assert "0.5 × the limit" in settle()
    find("batch_size").value = 4
    said = settle()
    assert "0.5 × the limit" in said and "stability limit 1.776" in said
    assert 10 ** find("learning_rate").value == pytest.approx(0.5 * 1.77595, rel=1e-4)
    find("learning_rate").value = math.log10(0.1)
    assert "learning rate 0.1 " in settle()
    assert 10 ** find("fraction").value == pytest.approx(0.1 / 1.77595, rel=1e-4)
    find("momentum").value = 0.9
    said = settle()
    assert "learning rate 0.1 " in said and "1.776" not in said


def test_past_the_limit_the_page_goes_on(tab):
    document, settle, _ = tab
    settle()
    document.get_model_by_name("fraction").value = math.log10(1.2)
    assert "does not exist" in settle() and "tail index" in settle()
    document.get_model_by_name("fraction").value = math.log10(0.3)
    assert "0.3 × the limit" in settle()


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("momentum", 7.0, "momentum is 7.0, but it must be from 0 to 0.99"),
        ("momentum", math.nan, "momentum is nan"),
        ("batch_size", 2.5, "batch_size is 5.65"),
        ("batch_size", math.nan, "batch_size is nan"),
        ("batch_size", 1e9, "batch_size is 2037"),
        ("a1", -1e9, "eigenvalues[0] is"),
        ("fraction", 3.0, "rate is 1000.0"),
    ],
)
def test_what_no_slider_sends_is_refused_in_the_library_s_words(tab, name, value, complaint):
    document, settle, simulations = tab
    settle()
    before, slider = simulations.asked, document.get_model_by_name(name)
    old, slider.value = slider.value, value
    assert complaint in settle() and simulations.asked == before
    slider.value = old
    assert "0.5 × the limit" in settle() and simulations.asked == before + 1


def test_the_simulation_fills_the_table():
    document = Document()
    Page(document, 256, AtOnce(), AtOnce())
    settle, find = settler(document), document.get_model_by_name
    settle()
    assert "256 chains" in find("run").text
    exact = find("table").text
    assert "test_loss" in exact and ">agree<" in exact
    find("again")._trigger_event(ButtonClick(find("again")))
    settle()
    assert find("table").text != exact  # other random numbers
    exact = find("table").text
    find("against").active = 2
    assert find("table").text != exact
    find("quantity").active = 1
    find("fraction").value = math.log10(1.2)
    settle()
    assert "no prediction" in find("table").text


def test_a_closed_tab_is_served_no_more(tab):
    document, _, simulations = tab
    for callback in document.session_destroyed_callbacks:
        callback(None)
    waiting = document.session_callbacks[0]
    document.remove_next_tick_callback(waiting)
    waiting.callback()
    assert simulations.asked == 0
