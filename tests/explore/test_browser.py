"""A real browser moves a slider: needs Debian's `chromium`, driven through its own debugging protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
import urllib.request

import pytest

pytest.importorskip("typer")
pytest.importorskip("bokeh")
websocket = pytest.importorskip("tornado.websocket")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")]

# bokeh draws inside shadow roots, which neither querySelector nor innerText sees through.
DEEP = """
const inner = (node) => [...(node.shadowRoot ? node.shadowRoot.children : []), ...node.children]
const within = (node) => [node, ...inner(node).flatMap(within)]
const all = within(document.body)
"""
TEXT = f"(() => {{ {DEEP}; return all.filter(e => e.matches('.box')).map(e => e.innerText).join('\\n') }})()"
FOCUS = f"(() => {{ {DEEP}; all.find(e => e.matches('.noUi-handle')).focus() }})()"


@contextlib.contextmanager
def chromium(folder):
    """The websocket address of an empty page of a headless browser."""
    process = subprocess.Popen(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
         f"--user-data-dir={folder}", "--window-size=1320,950", "about:blank"],
        stderr=subprocess.PIPE, text=True,
    )
    try:
        port = next(found[1] for line in process.stderr if (found := re.search(r"ws://127\.0\.0\.1:(\d+)/", line)))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=30) as answer:
            yield next(page["webSocketDebuggerUrl"] for page in json.load(answer) if page["type"] == "page")
    finally:
        process.terminate()
        process.communicate(timeout=30)


async def drive(url, debugger):
    """The text of the page before and after its first slider was moved by a key."""
    connection = await websocket.websocket_connect(debugger)
    numbers = iter(range(1, 10_000))

    async def call(method, **options):
        number = next(numbers)
        await connection.write_message(json.dumps({"id": number, "method": method, "params": options}))
        while (answer := json.loads(await connection.read_message())).get("id") != number:
            assert answer.get("method") != "Runtime.exceptionThrown", answer
        return answer["result"]

    async def evaluate(code):
        return (await call("Runtime.evaluate", expression=code, returnByValue=True))["result"].get("value")

    async def settled(before=""):
        last = ""
        for _ in range(240):
            text = await evaluate(TEXT) or ""
            rows = [line for line in text.splitlines() if line.startswith("test_loss")]
            if "before measuring" in text and rows and rows[0] not in before and text == last:
                return text
            last = text
            await asyncio.sleep(0.25)
        raise AssertionError(last)

    await call("Runtime.enable")
    await call("Page.navigate", url=url)
    before = await settled()
    await evaluate(FOCUS)
    key = {"key": "ArrowLeft", "code": "ArrowLeft", "windowsVirtualKeyCode": 37}
    for _ in range(5):
        await call("Input.dispatchKeyEvent", type="keyDown", **key)
        await call("Input.dispatchKeyEvent", type="keyUp", **key)
    after = await settled(before)
    connection.close()
    return before, after


def numbers(text, quantity):
    """Simulated, standard error and prediction of one row of the table."""
    row = next(line for line in text.splitlines() if line.startswith(quantity))
    return [float(cell) for cell in row.split()[1:4]]


def test_a_slider_moves_the_numbers(served, tmp_path):
    with served() as (url, _), chromium(tmp_path) as debugger:
        before, after = asyncio.run(drive(url, debugger))
    assert "0.5 × the limit" in before and "0.5 × the limit" not in after
    (old, error, predicted), (new, _, moved) = numbers(before, "test_loss"), numbers(after, "test_loss")
    assert abs(old - predicted) < 5 * error
    assert moved < predicted and new < old  # a smaller learning rate fluctuates less
