"""Work beside the page: one thing at a time, and only the newest request counts."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

Answer = TypeVar("Answer")
_log = logging.getLogger("sgdsim.explore")


class Lane:
    """Runs requests in an executor and drops every one that a newer one has overtaken, before or after its work.

    Args:
        executor: where the work is done; pages may share one.
        deliver: hands a function to the thread that owns the page.
    """

    def __init__(self, executor: Executor, deliver: Callable[[Callable[[], None]], object]):
        self._executor, self._deliver = executor, deliver
        self._numbers = itertools.count(1)
        self._newest = 0

    def ask(self, work: Callable[[], Answer], done: Callable[[Answer | Exception], None]) -> None:
        """Have `work` done and its answer, or the exception it raised, handed to `done`."""
        number = self._newest = next(self._numbers)
        self._executor.submit(self._run, number, work, done)

    def cancel(self) -> None:
        """Whatever is still under way is of no interest."""
        self._newest = next(self._numbers)

    def _run(self, number: int, work: Callable[[], Answer], done: Callable[[Answer | Exception], None]) -> None:
        if number != self._newest:
            return
        try:
            answer: Answer | Exception = work()
        except (ValueError, NotImplementedError) as refused:  # the library's own words, for the user
            answer = refused
        except Exception as wrong:
            _log.exception("the page shows this as an internal error")
            answer = RuntimeError(f"internal error ({type(wrong).__name__}); the terminal has the details")

        def hand_over() -> None:
            if number == self._newest:
                done(answer)

        self._deliver(hand_over)
