"""Pushing to the Hub: for its owners alone unless told otherwise, over nothing of others, and told where it fails."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedkit.errors import ConfigError, RunError
from embedkit.export.push import push_folder, require_repository
from tests.encoders.hub import Hub, serve
from tests.encoders.hub_uploads import TOKEN


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serve() as server:
        server.ask(monkeypatch, tmp_path)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    made.mkdir()
    (made / "README.md").write_text("---\nlicense: mit\n---\n# made\n")
    (made / "predictor.json").write_text("{}")
    (made / "head.safetensors").write_bytes(b"heads")
    return made


def refused(repository: str = "me/new", *, public: bool = False) -> str:
    with pytest.raises(RunError) as caught:
        require_repository(repository, public=public)
    return str(caught.value)


def newest(hub: Hub, repository: str = "me/new") -> Path:
    return list(hub.commits[repository].values())[-1]


def test_a_repository_is_made_for_its_owners_and_follows_the_folder(hub: Hub, folder: Path) -> None:
    require_repository("me/new", public=False)
    (folder / "model.onnx").write_bytes(b"graph")
    name, _, commit = push_folder(folder, "me/new", public=False).partition("@")
    assert (name, hub.private) == ("me/new", {"me/new"})
    assert newest(hub) == hub.commits["me/new"][commit]
    for file in folder.iterdir():
        assert (newest(hub) / file.name).read_bytes() == file.read_bytes()
    # Of what an earlier export wrote nothing is left; the owner's own files are.
    (newest(hub) / "example.wav").write_bytes(b"sound")
    (folder / "model.onnx").unlink()
    (folder / "head.safetensors").write_bytes(b"others")
    require_repository("me/new", public=False)
    push_folder(folder, "me/new", public=False)
    assert not (newest(hub) / "model.onnx").exists()
    assert (newest(hub) / "example.wav").exists()
    assert (newest(hub) / "head.safetensors").read_bytes() == b"others"


def test_everybody_may_read_what_is_pushed_publicly_alone(hub: Hub, folder: Path) -> None:
    push_folder(folder, "lab/open", public=True)
    assert hub.private == set()
    assert "Everybody may read the repository 'lab/open'; give --public" in refused("lab/open")
    require_repository("lab/open", public=True)
    push_folder(folder, "lab/closed", public=False)
    assert "'lab/closed' is private, and --public does not change what is there" in refused("lab/closed", public=True)


def test_what_is_there_already_is_kept(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "model.safetensors").write_bytes(b"")
    hub.add("me/bert", "1" * 40, tmp_path / "theirs")
    assert "'me/bert' holds something else than an exported run; name another." in refused("me/bert", public=True)


@pytest.mark.parametrize(
    "name", ["", "new", "me/new@main", "a/../b", "https://huggingface.co/me/new", "me/a.git", "me/" + "a" * 97]
)
def test_what_is_no_repository_is_told(name: str) -> None:
    with pytest.raises(ConfigError, match="expected ORG/NAME"):
        require_repository(name, public=False)


def test_a_token_that_is_missing_or_wrong_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "does not accept the token of the variable HF_TOKEN (401" in refused()
    assert "hf_wrong" not in refused()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.role = "read"
    assert "The token of the variable HF_TOKEN may not write to 'me/new' (it may only read)" in refused()
    monkeypatch.delenv("HF_TOKEN")
    assert "There is no token to push with; make one" in refused()


def test_refusals_and_networks_are_told(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for status, sentence in (
        (403, "may not write to 'me/new'"),
        (404, "may not write"),
        (500, "does not take"),
    ):
        hub.refusals = {"create": (status, "", "You don't have the rights")}
        with pytest.raises(RunError, match=sentence) as caught:
            push_folder(folder, "me/new", public=False)
        assert f"({status} You don't have the rights); " in str(caught.value)
    hub.refusals = {}
    (folder / "README.md").write_text("---\nlicense: my own\n---\n")
    with pytest.raises(RunError, match=r"does not take what was pushed to 'me/new' \(Invalid metadata in README.md"):
        push_folder(folder, "me/new", public=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids pushing to 'me/new'" in refused()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert "The Hub cannot be reached to push to 'me/new'" in refused()
