"""Only the newest request counts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sgdsim.explore.lane import Lane


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as made:
        yield made


def test_what_was_overtaken_is_neither_done_nor_shown(executor):
    lane = Lane(executor, lambda hand_over: hand_over())
    started, proceed = threading.Event(), threading.Event()
    done, shown = [], []

    def first():
        started.set()
        assert proceed.wait(10)
        done.append(1)
        return 1

    lane.ask(first, shown.append)
    assert started.wait(10)
    for number in (2, 3):
        lane.ask(lambda number=number: done.append(number) or number, shown.append)
    proceed.set()
    executor.shutdown()
    assert done == [1, 3] and shown == [3]


def test_an_answer_overtaken_on_its_way_is_not_shown(executor):
    waiting, shown = [], []
    lane = Lane(executor, waiting.append)
    lane.ask(lambda: 1, shown.append)
    executor.shutdown()
    lane.cancel()
    waiting[0]()
    assert shown == []


def test_a_refusal_arrives_in_the_library_s_words(executor):
    lane, shown = Lane(executor, lambda hand_over: hand_over()), []

    def refuse():
        raise ValueError("momentum is 2")

    lane.ask(refuse, shown.append)
    executor.shutdown()
    assert str(shown[0]) == "momentum is 2"


def test_an_internal_error_is_logged_and_tells_the_page_nothing_more(executor, caplog):
    lane, shown = Lane(executor, lambda hand_over: hand_over()), []
    lane.ask(lambda: {}["secret"], shown.append)
    executor.shutdown()
    assert "internal error (KeyError)" in str(shown[0]) and "secret" not in str(shown[0])
    assert "secret" in caplog.text
