"""What the Hub on the loopback address takes: repositories, large files, commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

LARGE = (".bin", ".safetensors", ".onnx")
"""Endings of files that the Hub keeps apart: named by their SHA-256, on another host."""
TOKEN = "hf_right"

_MODEL = re.compile(r"/api/models/(?P<repository>[^/]+/[^/]+?)(/(?P<call>tree|preupload|commit)/main)?(\?.*)?")


class Uploads:
    """Answers to what an upload asks; the rest is the handler's own."""

    def answer_upload(self: Any) -> bool:
        """Answer a request of an upload; False where it is none."""
        size = int(self.headers["Content-Length"] or 0)
        body = self.rfile.read(size)
        path, model = self.path.partition("?")[0], _MODEL.fullmatch(self.path)
        named = model["repository"] if model else ""
        if path.startswith("/lfs/") and self.command == "PUT":
            self.hub.large[path.rpartition("/")[2]] = body
            self._answer(200, {"ETag": '"1"'})
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._send({"objects": [self._place(one) for one in json.loads(body)["objects"]], "transfer": "basic"})
        elif path == "/api/whoami-v2" and self._is_known():
            token = {"displayName": "laptop", "role": self.hub.role}
            self._send({"name": "me", "type": "user", "orgs": [], "auth": {"accessToken": token}})
        elif path == "/api/whoami-v2":
            self._answer(401, {"X-Error-Message": "Invalid username or password."})
        elif path == "/api/validate-yaml":
            errors = _check(json.loads(body)["content"])
            self._send({"errors": errors, "warnings": []}, 400 if errors else 200)
        elif path == "/api/repos/create" and self._is_known() and not self.hub.refusals:
            self._create(json.loads(body))
        elif model and self._is_known() and named in self.hub.commits:
            folder = self.hub.commits[named][self.hub.commit(named, "main")]
            files = sorted(one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file())
            if model["call"] == "tree":
                self._send([{"type": "file", "path": one, "size": 1, "oid": "0" * 40} for one in files])
            elif model["call"] == "preupload":
                modes = {True: "lfs", False: "regular"}
                self._send({"files": [
                    {"path": one["path"], "uploadMode": modes[one["path"].endswith(LARGE)], "shouldIgnore": False}
                    for one in json.loads(body)["files"]
                ]})  # fmt: skip
            elif model["call"] == "commit":
                self._commit(named, folder, [json.loads(line) for line in body.splitlines()])
            else:
                told = [{"rfilename": one} for one in files]
                self._send({"id": named, "private": named in self.hub.private, "siblings": told})
        else:
            return False
        return True

    def _send(self: Any, value: Any, status: int = 200) -> None:
        self._answer(status, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _is_known(self: Any) -> bool:
        return bool(self.headers["Authorization"] == f"Bearer {TOKEN}")

    def _place(self: Any, one: dict[str, Any]) -> dict[str, Any]:
        upload = {"upload": {"href": f"{self.hub.storage}/lfs/{one['oid']}"}}
        return {**one, **({} if one["oid"] in self.hub.large else {"actions": upload})}

    def _create(self: Any, asked: dict[str, Any]) -> None:
        repository = f"{asked['organization'] or 'me'}/{asked['name']}"
        if repository in self.hub.commits:
            self._send({"error": "You already created this model repo", "url": f"{self.hub.address}/{repository}"}, 409)
            return
        folder = self.hub.uploads / f"{len(self.hub.commits)}-0"
        folder.mkdir(parents=True)
        (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
        self.hub.add(repository, "0" * 39 + str(len(self.hub.commits)), folder)
        self.hub.private |= {repository} if asked.get("visibility") == "private" or asked.get("private") else set()
        self._send({"url": f"{self.hub.address}/{repository}", "id": repository})

    def _commit(self: Any, repository: str, before: Path, lines: list[dict[str, Any]]) -> None:
        commit = hashlib.sha1(json.dumps([str(before), *lines]).encode()).hexdigest()
        folder = Path(shutil.copytree(before, self.hub.uploads / commit))
        for line in lines[1:]:
            value = line["value"]
            path = folder / value["path"]
            if line["key"] == "deletedFile":
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            is_large = line["key"] == "lfsFile"
            path.write_bytes(self.hub.large[value["oid"]] if is_large else base64.b64decode(value["content"]))
        self.hub.add(repository, commit, folder)
        self._send({"commitUrl": f"{self.hub.address}/{repository}/commit/{commit}", "commitOid": commit})


def _check(content: str) -> list[dict[str, str]]:
    """Check a card as the Hub does, as far as its documentation says how."""
    _, front, *_ = content.split("---\n")
    data = yaml.safe_load(front)
    bad = [one for one in data.get("base_model", []) if not re.fullmatch(r"[\w.-]+/[\w.-]+", one)]
    bad += [data["license"]] if fnmatch(str(data.get("license", "")), "* *") else []
    return [{"message": f"{one!r} is not allowed"} for one in bad]
