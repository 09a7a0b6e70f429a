"""A live page of runs, on this machine alone: the report, made again whenever there are more of them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeAlias

from embedkit.errors import EmbedkitError, RunError
from embedkit.loopback import ADDRESS, LoopbackHandler
from embedkit.wording import escape_controls

SECONDS = 10
"""After which the page asks again."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
WAITING = '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>embedkit</title><p>{}</p></html>'
Render: TypeAlias = Callable[[Path, Path], None]
"""Writes the report of a folder of runs to a file, or says why it cannot."""
_MOST = 1000


class RenderingApart:
    """Writes the report in a process of its own, which neither holds up a training nor shares its locks."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self, runs: Path, out: Path) -> None:
        """Write it and wait for it.

        Raises:
            RunError: it could not be made.
        """
        command = [sys.executable, "-m", "embedkit", "report", str(runs), "--out", str(out), "--quiet"]
        none = subprocess.DEVNULL
        with subprocess.Popen(command, stdin=none, stdout=none, stderr=subprocess.PIPE) as self.process:
            _, said = self.process.communicate()
        if self.process.returncode:
            raise RunError(said.decode(errors="replace").strip()[-_MOST:] or "The report ended without a word.")

    def stop(self) -> None:
        """End a report that nobody will see: it would go on for minutes after the command."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()


class LivePage:
    """The page as it is now.

    Args:
        runs: The folder of the runs.
        file: Where the report is kept meanwhile.
        render: Makes it.
    """

    def __init__(self, runs: Path, file: Path, render: Render) -> None:
        self.runs, self.file, self.render = runs, file, render
        self.lock = threading.Lock()
        self.state: list[tuple[Path, int]] = []
        self.visited, self.ended, self.left = threading.Event(), threading.Event(), threading.Event()

    def read(self) -> tuple[bytes, bool]:
        """Return the page, made again if runs have come since, and whether it is the last."""
        with self.lock:
            ended = self.ended.is_set()
            found = list(_survey(self.runs))
            if found and found != self.state:
                try:
                    self.render(self.runs, self.file)
                except EmbedkitError as error:
                    self.visited.set()
                    told = f"The report cannot be made at present: {error}"
                    return WAITING.format(escape(escape_controls(told))).encode(), ended
                self.state = found
            self.visited.set()
            if self.file.exists():
                return self.file.read_bytes(), ended
            return WAITING.format(escape(f"There are no runs below {self.runs} yet.")).encode(), ended


def _survey(runs: Path) -> Iterator[tuple[Path, int]]:
    for path in sorted(runs.rglob("metrics.json")):
        # A run may be replaced at this moment.
        with suppress(OSError):
            yield path, path.stat().st_mtime_ns


@contextmanager
def watch_runs(runs: Path, *, render: Render | None = None) -> Iterator[str]:
    """Serve the report of runs on the loopback address while the block runs, and its last state once more.

    Args:
        runs: The folder of the runs; it may be missing at first.
        render: Writes the report; None for `embedkit report` in a process of its own.

    Yields:
        The page's address.
    """
    apart = RenderingApart()
    with tempfile.TemporaryDirectory(prefix="embedkit-", ignore_cleanup_errors=True) as folder:
        page = LivePage(runs, Path(folder) / "report.html", render or apart)
        server = ThreadingHTTPServer((ADDRESS, 0), _handler(page))
        thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
        thread.start()
        try:
            yield f"http://{ADDRESS}:{server.server_port}/"
            page.ended.set()
            if page.visited.is_set():
                page.left.wait(2 * SECONDS)
        finally:
            apart.stop()
            server.shutdown()
            server.server_close()
            thread.join()


def _handler(page: LivePage) -> type[BaseHTTPRequestHandler]:
    class Handler(LoopbackHandler, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Host") not in self.hosts or self.path != "/":
                self.send_error(404)
                return
            content, last = page.read()
            headers = {"Content-Security-Policy": POLICY, **({} if last else {"Refresh": str(SECONDS)})}
            self.reply(200, "text/html; charset=utf-8", content, headers)
            if last:
                page.left.set()

    return Handler
