"""Who may talk to the page, and how it ends."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import sys
import urllib.parse

import pytest

pytest.importorskip("typer")
pytest.importorskip("bokeh")

from typer.testing import CliRunner

from sgdsim.cli import app as cli

UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
           "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}


def ask(url, path="/", **headers):
    place = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    text = "" if answer.status == 101 else answer.read().decode()
    connection.close()
    return answer.status, text


def test_the_page_answers_this_machine_only_and_ends_cleanly(served):
    with served() as (url, process):
        status, page = ask(url)
        assert status == 200 and "sgdsim explore" in page
        assert "cdn." not in page  # works without a network
        assert ask(url, Host="example.org")[0] == 404
        ticket = {"Sec-WebSocket-Protocol": "bokeh, " + re.search(r'"token":"([^"]+)"', page)[1]}
        assert ask(url, "/ws", Origin=url.rstrip("/"), **UPGRADE, **ticket)[0] == 101
        assert ask(url, "/ws", Origin="http://example.org", **UPGRADE)[0] == 403
        assert ask(url, "/ws", Origin="http://127.0.0.1:1", **UPGRADE)[0] == 403

        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0 and "Traceback" not in errors, errors


@pytest.fixture
def devices_stay(monkeypatch):
    monkeypatch.setattr("sgdsim.use_all_cores", lambda: 1)


@pytest.mark.parametrize("options", [("--port", "-3"), ("--port", "70000"), ("--chains", "7")])
def test_bad_options_are_one_line(devices_stay, options):
    done = CliRunner().invoke(cli.app, ["explore", "--no-browser", *options])
    assert done.exit_code == 2 and len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith(f"sgdsim: error: {options[0][2:]} is {options[1]}, but it must be ")


def test_a_port_in_use_is_one_line(devices_stay):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = CliRunner().invoke(cli.app, ["explore", "--no-browser", "--port", str(taken.getsockname()[1])])
    assert done.exit_code == 2 and "in use" in done.stderr


def test_without_bokeh_it_says_what_to_install(devices_stay, monkeypatch):
    monkeypatch.setitem(sys.modules, "bokeh", None)
    done = CliRunner().invoke(cli.app, ["explore"])
    assert done.exit_code == 2 and "pip install 'sgdsim[explore]'" in done.stderr
