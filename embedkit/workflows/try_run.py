"""Try a run with a voice: a page on the loopback address, for a microphone or a file."""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

from embedkit.audio import probe_audio
from embedkit.corpora.clips import Clip
from embedkit.errors import AudioError, ConfigError, EmbedkitError
from embedkit.export.predictor import open_predictor
from embedkit.loopback import ADDRESS, LoopbackHandler
from embedkit.progress import Tell
from embedkit.reporting.voice import TYPES, read_page
from embedkit.training.runs import RunRecord
from embedkit.workflows.cut_clips import cut_windows
from embedkit.workflows.predict import open_listener

MOST_BYTES = 32_000_000
MOST_SECONDS = 60.0
"""Of what is heard at once: windows that overlap take four times as long as the recording alone."""
WINDOW_SECONDS, HOP_SECONDS = 2.0, 0.5
_WAIT_SECONDS = 30.0
"""For the rest of a request."""

Listen: TypeAlias = Callable[[Path], Mapping[str, Any]]

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "media-src blob:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self)",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class VoiceServer(ThreadingHTTPServer):
    """Serves the page to this machine, at an address that nobody else knows.

    Attributes:
        address: Of the page, with its secret.
    """

    daemon_threads = True

    def __init__(self, listen: Listen, about: Mapping[str, Any], *, port: int = 0) -> None:
        """Take a port; 0 for any that is free.

        Raises:
            ConfigError: it is taken, or may not be used.
        """
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(f"--port {port} cannot be used ({error}); name another, or none.") from error
        self.listen, self.about, self.secret = listen, about, secrets.token_urlsafe(24)
        # One recording at a time has all threads.
        self.turn = threading.Lock()
        self.address = f"http://{ADDRESS}:{self.server_port}/{self.secret}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of pages that were closed before they were answered."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _RefusedError(Exception):
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class _Handler(LoopbackHandler, BaseHTTPRequestHandler):
    server: VoiceServer
    timeout = _WAIT_SECONDS

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._hear)

    def _answer(self, find: Callable[[str], tuple[str, bytes]]) -> None:
        try:
            status, (kind, body) = 200, find(self._find_name())
        except _RefusedError as refusal:
            status, kind, body = refusal.status, *_json({"error": str(refusal)})
        except EmbedkitError as error:
            status, kind, body = 422, *_json({"error": str(error)})
        except (MemoryError, RuntimeError) as error:
            status, kind, body = 500, *_json({"error": f"The recording cannot be heard ({error}); try a shorter one."})
        self.reply(status, kind, body, _HEADERS)

    def _find_name(self) -> str:
        """Return what is asked for, of whoever came by the page's address."""
        if self.headers["Host"] not in self.hosts:
            raise _RefusedError(403, "This page is for the address that embedkit try printed; open that.")
        if self.headers["Origin"] not in (None, *(f"http://{host}" for host in self.hosts)):
            raise _RefusedError(403, "Another page may not ask; open the address that embedkit try printed.")
        _, secret, *names = self.path.partition("?")[0].split("/")
        if not secrets.compare_digest(secret.encode(), self.server.secret.encode()):
            raise _RefusedError(403, "The address lacks its secret; open the one that embedkit try printed.")
        return "/".join(names)

    def _get(self, name: str) -> tuple[str, bytes]:
        if name == "about":
            return _json(self.server.about)
        name = name or "page.html"
        if name not in TYPES:
            raise _RefusedError(404, "There is nothing at this address.")
        return TYPES[name], read_page(name)

    def _hear(self, name: str) -> tuple[str, bytes]:
        if name != "hear":
            raise _RefusedError(404, "There is nothing at this address.")
        length = self.headers["Content-Length"] or ""
        if not length.isdecimal() or not length.isascii():
            raise _RefusedError(411, "The request does not say how long it is.")
        if int(length) == 0:
            raise _RefusedError(400, "Nothing was recorded; speak for a second at least, or choose a file.")
        if int(length) > MOST_BYTES:
            raise _RefusedError(413, f"The recording has more than {MOST_BYTES // 10**6} MB; choose a shorter one.")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "recording"
            path.write_bytes(self.rfile.read(int(length)))
            try:
                with self.server.turn:
                    return _json(self.server.listen(path))
            except AudioError as error:
                raise _RefusedError(422, str(error).replace(str(path), "recording")) from error


def _json(value: Mapping[str, Any]) -> tuple[str, bytes]:
    return "application/json", json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def open_voice_server(
    run: str | os.PathLike[str] | RunRecord,
    *,
    fold: str | None = None,
    seed: int | None = None,
    device: str = "auto",
    port: int = 0,
    sources: Mapping[str, str] | None = None,
    allow_code: str | Sequence[str] = (),
    tell: Tell = lambda _: None,
) -> VoiceServer:
    """Load a run and give a server of a page where it can be tried; it answers once `serve_forever` is called.

    Args:
        run: A run's folder, or its record, or an exported folder, or what one is called on the Hugging Face Hub.
        fold, seed: Ask only the heads of this fold, or of this seed; None for the mean over all.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        port: On the loopback address; 0 for any that is free.
        sources: Where encoder names lead, if elsewhere than when the store was made (`[encoders]` of embedkit.toml).
        allow_code: Packages of your own that the run may name parts of; see docs/security.md.
        tell: Receives what is worth saying.

    Raises:
        EmbedkitError: as `stream_predictions`, or the port cannot be used.
    """
    source = run if isinstance(run, RunRecord) else Path(run)
    predictor = open_predictor(source, fold=fold, seed=seed, allow_code=allow_code, tell=tell)
    listener = open_listener(
        predictor, device=device, sources=sources, max_hours=2 * MOST_SECONDS / 3600, rescale=False, tell=tell
    )

    def listen(path: Path) -> dict[str, Any]:
        seconds = probe_audio(path).duration_seconds
        if seconds > MOST_SECONDS:
            raise AudioError(f"The recording lasts {seconds:.1f} s, at most {MOST_SECONDS:.0f} s are heard; cut it.")
        windows = cut_windows(0.0, seconds, WINDOW_SECONDS, HOP_SECONDS)
        clips = [Clip(name="recording", path=path, start=start, end=end) for start, end in windows]
        whole, *found = listener([Clip(name="recording", path=path), *clips])
        heard = [{"start": one.start, "end": one.end, "values": one.values} for one in found]
        return {"seconds": seconds, "whole": whole.values, "windows": heard}

    about = {
        "title": predictor.title,
        "names": predictor.names,
        "rates": predictor.rates,
        "window": WINDOW_SECONDS,
        "hop": HOP_SECONDS,
        "seconds": MOST_SECONDS,
        "bytes": MOST_BYTES,
    }
    return VoiceServer(listen, about, port=port)
