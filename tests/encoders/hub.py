"""A Hugging Face Hub on the loopback address: as much of its protocol as fetching and pushing files needs."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.encoders.hub_uploads import LARGE, Uploads

_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_COMMITS = re.compile(r"/api/models/([^/]+/[^/]+)/commits/([^/?]+)")
_STORED = re.compile(r"/stored/([^/]+/[^/]+)/([^/]+)/(.+)")


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    range: str | None
    token: str | None

    @property
    def file(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass
class Hub:
    """The server; tests change it while it runs.

    Attributes:
        address: For HF_ENDPOINT.
        storage: Address of the host that large files are redirected to.
        commits: Folders of repositories by commit, the newest last.
        tags: Commits by name.
        refusals: By repository, file or method and file: status, X-Error-Code, X-Error-Message.
        breaks: By file: after how many bytes the next answers break off.
        accepted: The only token that is taken; None for any and none.
        renamed: New names of repositories.
        damaged: Files of which other bytes are sent than announced.
        whole: Whether ranges are ignored.
        asked: All requests so far.
        uploads: A folder for what is pushed.
        large: Large files that were pushed, by their SHA-256.
        private: Repositories that were made for their owners alone.
        role: What the token may do: "read" or "write".
    """

    address: str = ""
    storage: str = ""
    commits: dict[str, dict[str, Path]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    breaks: dict[str, list[int]] = field(default_factory=dict)
    accepted: str | None = None
    renamed: dict[str, str] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    whole: bool = False
    asked: list[Asked] = field(default_factory=list)
    uploads: Path = Path()
    large: dict[str, bytes] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    role: str = "write"

    def add(self, repository: str, commit: str, folder: Path) -> None:
        """Publish the files of a folder."""
        self.commits.setdefault(repository, {})[commit] = folder

    def ask(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        """Let this process ask it and no other, with an empty cache below a folder."""
        self.uploads = cache / "uploads"
        for name, value in {
            "ENDPOINT": self.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.address + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(cache / "cache"),
            "HF_TOKEN_PATH": str(cache / "token"),
            "HF_HUB_OFFLINE": False,
            # Its own protocol for large files is another server's.
            "HF_HUB_DISABLE_XET": True,
        }.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)

    def ranges(self, file: str) -> list[str | None]:
        """Return the ranges in which a file was fetched from where it lies."""
        path = "/stored/" if file.endswith(LARGE) else "/resolve/"
        return [one.range for one in self.asked if one.method == "GET" and one.file == file and path in one.path]

    def commit(self, repository: str, revision: str) -> str | None:
        known = self.commits[repository]
        if revision == "main":
            return list(known)[-1]
        return revision if revision in known else self.tags.get(revision)


class _Handler(Uploads, BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def log_message(self, *_: object) -> None:
        return

    def _handle(self) -> None:
        hub = self.hub
        asked = Asked(self.command, self.path, self.headers["Range"], self.headers["Authorization"])
        hub.asked.append(asked)
        if self.answer_upload():
            return
        if stored := _STORED.match(self.path):
            self._send_file(hub.commits[stored[1]][stored[2]] / stored[3])
            return
        found = _RESOLVE.match(self.path) or _COMMITS.match(self.path)
        repository, revision = (found[1], found[2]) if found else ("", "")
        new_name = hub.renamed.get(repository)
        refusal = (
            hub.refusals.get(repository)
            or hub.refusals.get(f"{self.command} {asked.file}")
            or hub.refusals.get(asked.file)
        )
        if new_name:
            self._answer(307, {"Location": self.path.replace(repository, new_name)})
        elif refusal:
            status, code, message = refusal
            self._answer(status, {"X-Error-Code": code, "X-Error-Message": message})
        elif hub.accepted and asked.token and asked.token != f"Bearer {hub.accepted}":
            self._answer(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif repository not in hub.commits:
            # Whoever is not logged in is not told what there is.
            status = 404 if asked.token else 401
            self._answer(status, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif self.path.startswith("/api/"):
            self._send_commits(repository)
        else:
            self._resolve(repository, hub.commit(repository, revision), found[3] if found else "")

    def _send_commits(self, repository: str) -> None:
        commits = [
            {"id": commit, "title": "", "message": "", "authors": [], "date": "2024-01-01T00:00:00.000Z"}
            for commit in reversed(self.hub.commits[repository])
        ]
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(commits).encode())

    def _resolve(self, repository: str, commit: str | None, file: str) -> None:
        if commit is None:
            self._answer(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
            return
        path = self.hub.commits[repository][commit] / file
        headers = {"X-Repo-Commit": commit}
        if not path.is_file():
            self._answer(404, headers | {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
        elif file.endswith(LARGE):
            contents = path.read_bytes()
            headers |= {
                "X-Linked-Size": str(len(contents)),
                "X-Linked-ETag": f'"{hashlib.sha256(contents).hexdigest()}"',
                "Location": f"{self.hub.storage}/stored/{repository}/{commit}/{file}",
            }
            self._answer(302, headers)
        else:
            self._send_file(path, headers)

    def _send_file(self, path: Path, headers: dict[str, str] | None = None) -> None:
        contents = path.read_bytes()
        etag = hashlib.sha1(b"blob %d\0" % len(contents) + contents).hexdigest()
        if path.name in self.hub.damaged:
            contents = contents[:-1] + bytes([contents[-1] ^ 1])
        start = 0 if self.hub.whole or not self.headers["Range"] else int(self.headers["Range"][6:-1])
        headers = {"ETag": f'"{etag}"', **(headers or {})}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(contents) - 1}/{len(contents)}"
        breaks = self.hub.breaks.get(path.name, []) if self.command == "GET" else []
        self._answer(206 if start else 200, headers, contents[start:], breaks.pop(0) if breaks else None)

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"", most: int | None = None) -> None:
        self.send_response(status)
        # What huggingface_hub logs, once.
        self.send_header("X-HF-Warning", "login; You are not logged in.")
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:most])
            self.close_connection = most is not None or self.close_connection


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a Hub, and its host of large files, in threads."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.address, hub.storage = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
