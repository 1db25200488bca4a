"""A page as a person opens it: Chromium without a window, told by its DevTools protocol, timed and photographed."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

WIDTH_PX, HEIGHT_PX = 1280, 1600
START_S, ANSWER_S = 20.0, 60.0
DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))"
"""Two frames after the page's load event: the pixels of its first screen stand."""
EVERY_PICTURE = """Promise.all([...document.images].map(image => { image.loading = "eager"; return image.decode(); }))
    .then(all => all.length)"""
"""Also those that a browser leaves until they are scrolled to."""


@dataclass(frozen=True)
class Opened:
    """What a person waited for.

    Attributes:
        loaded_s: from asking for the page to its load event.
        drawn_s: until the second frame after it was drawn.
        decoded_s: until every picture was decoded, those far below as well.
        n_images: of them.
        height_px: of the page.
        errors: that the page wrote to the console.
    """

    loaded_s: float
    drawn_s: float
    decoded_s: float
    n_images: int
    height_px: int
    errors: tuple[str, ...]


def open_page(page: Path, *, picture: Path | None = None, whole: bool = False) -> Opened:
    """Open a file in a fresh Chromium; ``picture`` is a PNG of its first screen, or of the ``whole`` page.

    Raises:
        FileNotFoundError: there is no Chromium on this machine.
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise FileNotFoundError("no chromium on this machine: apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0"]
        options += [f"--user-data-dir={profile}", f"--window-size={WIDTH_PX},{HEIGHT_PX}", "about:blank"]
        browser = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with connect(_address(Path(profile)), max_size=None) as socket:
                return _opened(_Session(socket), page, picture, whole=whole)
        finally:
            browser.terminate()
            browser.wait()


class _Session:
    """Commands and their answers, events kept until they are asked for."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._n, self.events = socket, 0, list[dict[str, Any]]()

    def __call__(self, method: str, **parameters: object) -> dict[str, Any]:
        self._n += 1
        self._socket.send(json.dumps({"id": self._n, "method": method, "params": parameters}))
        while (message := self._next()).get("id") != self._n:
            self.events.append(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return dict(message["result"])

    def wait_for(self, event: str) -> None:
        while not any(each.get("method") == event for each in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        return dict(json.loads(self._socket.recv(timeout=ANSWER_S)))


def _opened(session: _Session, page: Path, picture: Path | None, *, whole: bool) -> Opened:
    for domain in ("Page", "Runtime", "Log"):
        session(f"{domain}.enable")
    session.events.clear()
    started = time.perf_counter()
    session("Page.navigate", url=page.resolve().as_uri())
    session.wait_for("Page.loadEventFired")
    loaded = time.perf_counter() - started
    session("Runtime.evaluate", expression=DRAWN, awaitPromise=True)
    drawn = time.perf_counter() - started
    n_images = session("Runtime.evaluate", expression=EVERY_PICTURE, awaitPromise=True)["result"]["value"]
    decoded = time.perf_counter() - started
    height = int(session("Page.getLayoutMetrics")["cssContentSize"]["height"])
    if picture is not None:
        clip = {"x": 0, "y": 0, "width": WIDTH_PX, "height": height if whole else HEIGHT_PX, "scale": 1}
        shot = session("Page.captureScreenshot", clip=clip, captureBeyondViewport=whole)
        picture.write_bytes(base64.b64decode(shot["data"]))
    wrote = [each["params"] for each in session.events if each.get("method") == "Log.entryAdded"]
    errors = tuple(each["entry"]["text"] for each in wrote if each["entry"]["level"] == "error")
    return Opened(loaded, drawn, decoded, int(n_images), height, errors)


def _address(profile: Path) -> str:
    """Of the page's own DevTools, as soon as Chromium has written its port."""
    file, until = profile / "DevToolsActivePort", time.monotonic() + START_S
    while time.monotonic() < until:
        if file.exists() and (lines := file.read_text().split()):
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json/list", timeout=START_S) as answer:
                targets = [each for each in json.load(answer) if each["type"] == "page"]
            if targets:
                return str(targets[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise TimeoutError(f"chromium did not start within {START_S:.0f} s")
