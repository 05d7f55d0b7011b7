"""`sgdsim explore`: the page with sliders."""

from __future__ import annotations

import functools

import sgdsim as ss
from sgdsim import _checks
from sgdsim.cli.devices import compile_quickly


def explore(port: int, browser: bool, chains: int) -> None:
    """Serve the page until Ctrl-C."""
    _checks.need("bokeh", "explore")
    from sgdsim.explore.server import serve

    compile_quickly()
    ss.use_all_cores()
    serve(port=port, browser=browser, chains=chains, announce=functools.partial(print, flush=True))
