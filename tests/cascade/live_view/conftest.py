"""A real browser, driven through its own debugging protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for path in map(shutil.which, NAMES) if path), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
MORE = ("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0")


class Browser:
    """One page of a headless Chromium."""

    def __init__(self, folder: Path, port: int) -> None:
        from urllib.request import urlopen

        from websockets.sync.client import connect

        self.folder, self._number = folder, 0
        with urlopen(f"http://127.0.0.1:{port}/json") as reply:
            page = next(each for each in json.load(reply) if each["type"] == "page")
        self._socket = connect(page["webSocketDebuggerUrl"], max_size=None, proxy=None)

    def close(self) -> None:
        """Let go of the page."""
        self._socket.close()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            reply = json.loads(self._socket.recv(timeout=60))
            if reply.get("id") == self._number:
                assert "error" not in reply, reply
                return reply["result"]

    def eval(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, url: str) -> None:
        """Go to an address."""
        self.call("Page.navigate", url=url)

    def wait(self, script: str, timeout_s: float = 200.0) -> Any:
        """Wait until an expression is true in the page, and return it."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            found = self.eval(f"(()=>{{try{{return {script}}}catch(e){{return null}}}})()")
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"not within {timeout_s} s: {script}; page: {self.eval('document.body.innerText')}")

    def picture(self, path: Path) -> Path:
        """Save a picture of the page."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
        return path


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A page that shows nothing yet."""
    if BROWSER is None:
        pytest.skip("no Chromium found; on Debian: apt-get install chromium")
    profile = tmp_path / "profile"
    command = [BROWSER, *FLAGS, *MORE, f"--user-data-dir={profile}", "--window-size=1280,860", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port_file, until = profile / "DevToolsActivePort", time.monotonic() + 60
        while not (port_file.is_file() and port_file.read_text().splitlines()):
            assert time.monotonic() < until, "the browser does not answer"
            time.sleep(0.05)
        page = Browser(tmp_path, int(port_file.read_text().splitlines()[0]))
        yield page
        page.close()
    finally:
        process.terminate()
        process.wait(timeout=30)
