"""A headless Chromium, driven over two pipes by its own protocol; tests that need one are skipped where none is."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PHONE, DESK = (390, 844), (1200, 900)


class Browser:
    """One page of a browser.

    Attributes:
        complaints: what the page wrote to the console as errors, what it threw, and what its policy forbade.
    """

    def __init__(self, to_it: int, from_it: int) -> None:
        self._to, self._from = to_it, from_it
        self._number, self._session, self._unread = 0, "", b""
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; events on the way are looked at."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._number, "method": method, "params": parameters, **session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, url: str, size: tuple[int, int] = DESK, *, dark: bool = False, script: bool = True) -> None:
        """Open a page and wait until it is there.

        Args:
            url: of the page.
            size: of the window, CSS pixels.
            dark: whether the reader prefers dark colours.
            script: whether scripts may run.
        """
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="screen", features=[scheme])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        width, height = size
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Page.navigate", url=url)
        while (message := self._read()).get("method") != "Page.loadEventFired":
            self._note(message)

    def ask(self, expression: str) -> Any:
        """Return what an expression is worth in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self, file: Path) -> None:
        """Write a picture of the whole page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, file: Path) -> None:
        """Write the page as it is printed."""
        file.write_bytes(base64.b64decode(self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"]))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            more = os.read(self._from, 1 << 20)
            assert more, "the browser went away"
            self._unread += more
        message, _, self._unread = self._unread.partition(b"\0")
        read: dict[str, Any] = json.loads(message)
        return read

    def _note(self, message: dict[str, Any]) -> None:
        told = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"]))
        if message.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.complaints.append(told["entry"]["text"])
        if message.get("method") == "Runtime.consoleAPICalled" and told["type"] == "error":
            self.complaints.append(json.dumps(told["args"]))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start a browser with a new profile and end it; skip the test where there is none.

    Args:
        profile: an empty folder.
    """
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium on PATH")
    it_reads, to_it = os.pipe()
    from_it, it_writes = os.pipe()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    places = f"import os, sys; os.dup2({it_reads}, 200); os.dup2({it_writes}, 4); os.dup2(200, 3)"  # where it looks
    command = [sys.executable, "-c", f"{places}; os.execv(sys.argv[1], sys.argv[1:])", program, *options]
    process = subprocess.Popen(
        command, pass_fds=(it_reads, it_writes), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(it_reads)
    os.close(it_writes)
    try:
        yield Browser(to_it, from_it)
    finally:
        process.terminate()
        process.wait(20)
        os.close(to_it)
        os.close(from_it)
