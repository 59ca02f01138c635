# SPDX-License-Identifier: Apache-2.0
"""Opens a TensorBoard folder in headless Chromium and takes pictures of its pages.

    python docs/tools/tensorboard_shots.py runs/first/tensorboard --out docs/images

Fails, naming them, when tags are absent: first in the event files, then in what the browser shows.
Needs `tensorboard`, and `chromium` with `chromedriver` on the PATH.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

TAGS = ("loss/total", "quality/knn", "quality/rank_me", "quality/feature_std", "views")
# The page of each kind of tag, and a window that shows three groups of cards whole.
PAGES = {"scalars": ("?smoothing=0#timeseries", 2500), "images": ("#images", 700)}
# Cards are drawn by a web worker once the data arrive; the text of a page has no other end.
PATIENCE = 60
CHROMIUM = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
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
    """The few commands of a WebDriver session that are needed here.

    Args:
        address: of chromedriver.
        profile: fresh folder for the browser's profile.
    """

    def __init__(self, address: str, profile: str) -> None:
        options = {"args": [*CHROMIUM, f"--user-data-dir={profile}"]}
        binary = shutil.which("chromium") or shutil.which("google-chrome")
        if binary:
            options["binary"] = binary
        self.address = f"{address}/session"
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        self.address += "/" + self._send("", {"capabilities": wanted})["sessionId"]

    def _send(self, path: str, body: dict | None = None, method: str | None = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.address + path,
            data,
            {"Content-Type": "application/json"},
            method=method or ("GET" if body is None else "POST"),
        )
        with urllib.request.urlopen(request, timeout=2 * PATIENCE) as answer:
            return json.load(answer)["value"]

    def open(self, url: str, height: int) -> None:
        """Goes to a page, in a window of that height."""
        # Between fragments of one address the browser would not load anew.
        self._send("/url", {"url": "about:blank"})
        self._send("/window/rect", {"width": 1500, "height": height})
        self._send("/url", {"url": url})

    def run(self, script: str):
        """What a script returns in the page."""
        return self._send("/execute/sync", {"script": script, "args": []})

    def picture(self) -> bytes:
        """PNG of the window."""
        return base64.b64decode(self._send("/screenshot"))

    def close(self) -> None:
        """Ends the browser."""
        self._send("", method="DELETE")


# TensorBoard nests its pages in shadow roots, which innerText does not enter.
SEEN = """
const texts = [];
const walk = (node) => {
  for (const child of node.childNodes) {
    if (child.nodeType === Node.TEXT_NODE) texts.push(child.textContent);
    if (child.nodeType === Node.ELEMENT_NODE) {
      for (const name of ['title', 'aria-label']) texts.push(child.getAttribute(name) || '');
      if (child.shadowRoot) walk(child.shadowRoot);
      walk(child);
    }
  }
};
walk(document.body);
return texts.join('\\n');
"""


def shoot(browser: Browser, url: str, height: int, tags: list[str], target: Path) -> list[str]:
    """Opens a page, waits for the tags to be drawn and saves a picture.

    Returns:
        The tags that the page does not show.
    """
    browser.open(url, height)
    missing = tags
    for _ in range(PATIENCE):
        text = browser.run(SEEN) or ""
        # A card shows its tag without the group, which stands above.
        missing = [tag for tag in tags if tag.split("/")[-1] not in text]
        if not missing:
            break
        time.sleep(1)
    time.sleep(4)
    target.write_bytes(browser.picture())
    print(f"{target}: {target.stat().st_size} bytes")
    return missing


def main() -> int:
    """Checks tags and takes the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("log_dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the PNG files")
    parser.add_argument("--tags", nargs="+", default=list(TAGS), help="tags that must be there")
    options = parser.parse_args()

    found = stored_tags(options.log_dir)
    absent = [tag for tag in options.tags if not any(tag in tags for tags in found.values())]
    if absent:
        print(f"absent from {options.log_dir}: {', '.join(absent)}; there are {found}")
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    port, driver = free_port(), free_port()
    board = f"http://127.0.0.1:{port}"
    tensorboard = [sys.executable, "-m", "tensorboard.main", "--logdir", str(options.log_dir)]
    tensorboard += ["--port", str(port), "--host", "127.0.0.1", "--load_fast", "false"]
    chromedriver = [shutil.which("chromedriver") or "chromedriver", f"--port={driver}"]
    address = f"http://127.0.0.1:{driver}"
    unseen = []
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        running(tensorboard, board),
        running(chromedriver, f"{address}/status"),
    ):
        browser = Browser(address, profile)
        try:
            for kind, (page, height) in PAGES.items():
                tags = [tag for tag in options.tags if tag in found[kind]]
                if tags:
                    target = options.out / f"tensorboard_{kind}.png"
                    unseen += shoot(browser, f"{board}/{page}", height, tags, target)
        finally:
            browser.close()
    if unseen:
        print(f"not shown by TensorBoard: {', '.join(unseen)}")
    return 1 if unseen else 0


if __name__ == "__main__":
    raise SystemExit(main())
