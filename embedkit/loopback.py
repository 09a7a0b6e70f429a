"""Pages for this machine alone: by which names they may be asked for, and how they are answered."""

from __future__ import annotations

from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler

ADDRESS = "127.0.0.1"


class LoopbackHandler(BaseHTTPRequestHandler):
    """Answers a server on `ADDRESS`, and says nothing on the terminal."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """What the page is called by those who came by its address.

        A page of others whose name leads to this machine sends its own name as the host (DNS rebinding).
        """
        port = self.connection.getsockname()[1]
        return tuple(f"{name}:{port}" for name in (ADDRESS, "localhost"))

    def reply(self, status: int, kind: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a whole answer, which nobody may keep.

        Args:
            status: Of HTTP.
            kind: Its media type.
            body: What it holds.
            headers: Further ones.
        """
        self.send_response(status)
        own = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
        for name, value in {**headers, **own}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: addresses may hold a secret, and the terminal is for the command."""
