# SPDX-License-Identifier: Apache-2.0
"""Opens a TensorBoard folder in headless Chromium and takes pictures of its pages.

    python examples/watch_a_run.py --encoder transformer --out runs/transformer
    python docs/tools/tensorboard_shots.py runs/transformer --out docs/assets

Fails, naming them, when tags are absent: first in the event files, then in what the browser shows.
Needs `tensorboard`, and `chromium` on the PATH.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

WINDOW = (1280, 800)
# Every point as it was measured, where TensorBoard would smooth curves.
CURVES = "#custom_scalars&_smoothingWeight=0"
# By picture: the page, and what must stand there. The last of them is scrolled to the top.
PAGES = {
    "learning": (CURVES, ("Losses", "RankMe", "Learning")),
    "optimisation": (CURVES, ("Learning rate", "Norms of updates", "Optimisation")),
    "images": ("#images&tagFilter=tokens%7Cneighbours", ("neighbours",)),
    "projector": ("#projector", ("latest: update ",)),
}
SCALARS = (
    "loss/total",
    "schedule/learning_rate",
    "quality/knn",
    "quality/rank_me",
    "quality/feature_std",
    "update_norm/encoder",
)
# Cards are drawn by a web worker once the data arrive; the text of a page has no other end.
PATIENCE = 60
CHROMIUM = (
    "--headless",
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def stored_tags(folder: Path) -> dict[str, set[str]]:
    """Tags in the event files of a folder, as {"scalars": ..., "images": ...}."""
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

    reader = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    found: dict[str, set[str]] = {"scalars": set(), "images": set()}
    for kind, tags in found.items():
        for run in reader.Runs():
            tags.update(reader.PluginRunToTagToContent(kind).get(run, {}))
    return found


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(command: list[str], url: str):
    """Runs a server until the block ends; waits until it answers."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(2 * PATIENCE):
            try:
                urllib.request.urlopen(url, timeout=5).read()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"{command[0]} ended with code {process.returncode}") from None
                time.sleep(0.5)
        else:
            raise SystemExit(f"{command[0]} did not answer within {PATIENCE} s")
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


class Browser:
    """A page of headless Chromium, driven over a pipe by the DevTools protocol.

    Args:
        profile: fresh folder for the browser's profile.
    """

    def __init__(self, profile: str) -> None:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        if program is None:
            raise SystemExit("neither chromium nor google-chrome is on the PATH")
        (theirs, self._out), (self._in, answers) = os.pipe(), os.pipe()
        command = [program, *CHROMIUM, f"--user-data-dir={profile}"]
        # The browser reads from file 3 and writes to file 4.
        shell = ["sh", "-c", f'exec "$@" 3<&{theirs} 4>&{answers}', "sh", *command]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(shell, pass_fds=(theirs, answers), **quiet)
        os.close(theirs)
        os.close(answers)
        self._count, self._rest, self._session = 0, b"", None
        page = self._send("Target.createTarget", url="about:blank")["targetId"]
        attached = self._send("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]

    def _send(self, method: str, **options):
        self._count += 1
        message = {"id": self._count, "method": method, "params": options}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                read = os.read(self._in, 1 << 20)
                if not read:
                    raise SystemExit("the browser ended")
                self._rest += read
            one, self._rest = self._rest.split(b"\0", 1)
            answer = json.loads(one)
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, url: str) -> None:
        """Goes to a page."""
        width, height = WINDOW
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._send("Emulation.setDeviceMetricsOverride", **size)
        # Between fragments of one address the browser would not load anew.
        self._send("Page.navigate", url="about:blank")
        self._send("Page.navigate", url=url)

    def run(self, script: str):
        """What a script returns in the page; None where it fails."""
        body = f"(() => {{{script}}})()"
        found = self._send("Runtime.evaluate", expression=body, returnByValue=True)
        return found["result"].get("value")

    def picture(self) -> bytes:
        """PNG of the window."""
        return base64.b64decode(self._send("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        """Ends the browser."""
        self._process.terminate()
        self._process.wait(timeout=30)


# TensorBoard nests its pages in shadow roots, which innerText does not enter.
WALK = """
const texts = [];
const walk = (node) => {
  for (const child of node.childNodes) {
    if (child.nodeType === Node.TEXT_NODE) {
      texts.push(child.textContent);
      if (child.textContent.trim() === wanted) {
        // Below the bar of the page.
        child.parentElement.style.scrollMarginTop = '24px';
        child.parentElement.scrollIntoView();
      }
    }
    if (child.nodeType === Node.ELEMENT_NODE) {
      for (const name of ['title', 'aria-label']) texts.push(child.getAttribute(name) || '');
      if (child.tagName === 'IFRAME' && child.contentDocument) walk(child.contentDocument);
      if (child.shadowRoot) walk(child.shadowRoot);
      walk(child);
    }
  }
};
walk(document);
return texts.join('\\n');
"""


def small(png: bytes) -> bytes:
    """The same picture in 256 colours."""
    from PIL import Image

    held = io.BytesIO()
    palette = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    palette.save(held, "PNG", optimize=True)
    return held.getvalue()


def shoot(browser: Browser, url: str, words: list[str], target: Path) -> list[str]:
    """Opens a page, waits until it shows some words and saves a picture.

    Returns:
        The words that the page does not show.
    """
    browser.open(url)
    missing = words
    for _ in range(PATIENCE):
        text = browser.run(f"const wanted = {json.dumps(words[-1])};{WALK}") or ""
        missing = [word for word in words if word not in text]
        if not missing:
            break
        time.sleep(1)
    time.sleep(8)
    target.write_bytes(small(browser.picture()))
    print(f"{target}: {target.stat().st_size} bytes")
    return missing


def main() -> int:
    """Checks tags and takes the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("log_dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the PNG files")
    parser.add_argument("--scalars", nargs="*", default=list(SCALARS), help="must be there")
    parser.add_argument("--images", nargs="*", default=["views", "neighbours", "map"], help="too")
    parser.add_argument("--pages", nargs="+", default=list(PAGES), choices=list(PAGES))
    options = parser.parse_args()

    found = stored_tags(options.log_dir)
    absent = [tag for kind in found for tag in getattr(options, kind) if tag not in found[kind]]
    if absent:
        print(f"absent from {options.log_dir}: {', '.join(absent)}; there are {found}")
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    board = f"http://127.0.0.1:{free_port()}"
    tensorboard = [sys.executable, "-m", "tensorboard.main", "--logdir", str(options.log_dir)]
    tensorboard += ["--port", board.rsplit(":", 1)[1], "--host", "127.0.0.1"]
    unseen = []
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        running(tensorboard, board),
    ):
        browser = Browser(profile)
        try:
            for kind in options.pages:
                page, words = PAGES[kind]
                target = options.out / f"tensorboard_{kind}.png"
                unseen += shoot(browser, f"{board}/{page}", list(words), target)
        finally:
            browser.close()
    if unseen:
        print(f"not shown by TensorBoard: {', '.join(unseen)}")
    return 1 if unseen else 0


if __name__ == "__main__":
    raise SystemExit(main())
