"""What goes wrong, as one line and an exit code: 2 for what a user can put right, 130 for Ctrl-C."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn, ParamSpec

import typer

P = ParamSpec("P")


class Stopped(BaseException):
    """Ctrl-C, where the engine shall not take it for a wish to see what there is so far."""


def one_line(command: Callable[P, None]) -> Callable[P, None]:
    """The command, which says in one line on standard error what is wrong or that it was interrupted."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **options: P.kwargs) -> None:
        try:
            command(*args, **options)
        except (ValueError, ImportError, OSError, NotImplementedError) as wrong:
            print("sgdsim: error:", " ".join(str(wrong).split()), file=sys.stderr)
            raise typer.Exit(2) from None
        except (KeyboardInterrupt, Stopped):
            print("sgdsim: interrupted", file=sys.stderr)
            raise typer.Exit(130) from None

    return wrapper


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """Within it Ctrl-C ends the command, not only the simulation that happens to run."""

    def stop(*_: object) -> NoReturn:
        raise Stopped

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set a handler
        yield
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
