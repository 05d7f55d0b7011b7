"""The server: this machine only, one free port, no request from another site."""

from __future__ import annotations

import asyncio
import socket
import webbrowser
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.routing import HostMatches, Rule, RuleRouter

from sgdsim import _checks
from sgdsim.explore.inputs import Inputs
from sgdsim.explore.page import Page

ADDRESS = "127.0.0.1"
_MAX_MESSAGE = 2**20  # bytes that a browser may send at once


def serve(
    *, port: int = 0, browser: bool = True, chains: int = 4096, announce: Callable[[str], object] = print
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        port: 0 takes a free one.
        browser: whether to open the page.
        chains: of each simulation, from 256 to 16384.
        announce: told the address, once connections are accepted.

    Raises:
        ValueError: an argument is outside its range.
        OSError: the port is in use.
    """
    port = _checks.integer("port", port, low=0, high=65_535)
    Inputs(chains=chains)
    with (
        socket.create_server((ADDRESS, port)) as listening,
        ThreadPoolExecutor(1, "sgdsim-predict") as quick,
        ThreadPoolExecutor(1, "sgdsim-simulate") as slow,
    ):
        listening.setblocking(False)
        asyncio.set_event_loop(asyncio.new_event_loop())
        url = f"http://{ADDRESS}:{listening.getsockname()[1]}/"
        server = _server(listening, partial(_open_page, chains=chains, quick=quick, slow=slow))
        announce(f"{url}  (Ctrl-C ends it)")
        if browser:
            server.io_loop.add_callback(webbrowser.open, url)
        try:
            server.run_until_shutdown()
        finally:
            for executor in (quick, slow):
                executor.shutdown(wait=False, cancel_futures=True)


def _open_page(document: Document, *, chains: int, quick: ThreadPoolExecutor, slow: ThreadPoolExecutor) -> None:
    Page(document, chains, quick, slow)


def _server(listening: socket.socket, open_page: Callable[[Document], None]) -> BaseServer:
    port = listening.getsockname()[1]
    pages = BokehTornado(
        {"/": Application(FunctionHandler(open_page))},
        # A page of another site, or of another local server, may not talk to this one.
        extra_websocket_origins=[f"{ADDRESS}:{port}", f"localhost:{port}"],
        websocket_max_message_size_bytes=_MAX_MESSAGE,
    )
    # Any other name for this address is a name that somebody else's domain was given.
    http = HTTPServer(RuleRouter([Rule(HostMatches(r"(127\.0\.0\.1|localhost)"), pages)]))
    http.add_sockets([listening])
    return BaseServer(IOLoop.current(), pages, http)
