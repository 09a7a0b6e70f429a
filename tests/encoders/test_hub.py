"""Fetching weights from a Hub that answers well, badly, or not at all, and finding them again without one."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

import embedkit
from embedkit.encoders import load_encoder
from embedkit.encoders.published import PUBLISHED
from embedkit.errors import EncoderError
from tests.encoders.checkpoints import write_conv_checkpoint
from tests.encoders.hub import Hub, serve
from tests.workflows.tones import write_tones

HUBERT, _, PINNED = PUBLISHED["hubert"].partition("@")
OLD, NEW = "1" * 39 + "a", "2" * 40
WEIGHTS = "pytorch_model.bin"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HuBERT as it is published: config.json, preprocessor_config.json, pytorch_model.bin."""
    folder = write_conv_checkpoint(tmp_path_factory.mktemp("published") / "hubert", "hubert")
    torch.save(load_file(folder / "model.safetensors"), folder / WEIGHTS)
    (folder / "model.safetensors").unlink()
    return folder


@pytest.fixture
def hub(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that this process asks, and an empty cache."""
    monkeypatch.setattr("embedkit.encoders.download.WAITS", (0.01, 0.01))
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.delenv(variable, raising=False)
    with serve() as server:
        server.add(HUBERT, PINNED, published)
        server.ask(monkeypatch, tmp_path)
        yield server


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda: monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def variant(published: Path, folder: Path) -> Path:
    """Copy the published files, to be changed."""
    return Path(shutil.copytree(published, folder))


def loaded(name: str) -> tuple[str, str]:
    identity = load_encoder(name).identity()
    return identity["revision"], identity["weights_digest"]


def refused(name: str = "hubert") -> str:
    with pytest.raises(EncoderError) as caught:
        load_encoder(name)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def test_the_pinned_revision_is_fetched_once_and_then_found_offline(hub: Hub, published: Path, offline: Any) -> None:
    hub.add(HUBERT, NEW, published)
    first = loaded("hubert")
    assert first == (PINNED, load_encoder(str(published)).identity()["weights_digest"])
    assert hub.ranges(WEIGHTS) == [None]
    asked = len(hub.asked)
    assert loaded("hubert") == first
    offline()
    assert loaded("hubert") == first
    assert len(hub.asked) == asked


@pytest.mark.parametrize("form", ["safetensors", "sharded safetensors", "sharded bin", "processor_config", "neither"])
def test_every_layout_is_fetched_whole(
    form: str, hub: Hub, published: Path, tmp_path: Path, offline: Any, caplog: pytest.LogCaptureFixture
) -> None:
    folder = variant(published, tmp_path / "variant")
    model = transformers.HubertModel.from_pretrained(published)
    if "safetensors" in form or form == "sharded bin":
        (folder / WEIGHTS).unlink()
        model.save_pretrained(folder, max_shard_size="100KB" if "sharded" in form else "1GB")
    if form == "sharded bin":
        for shard in folder.glob("*.safetensors"):
            torch.save(load_file(shard), shard.with_name(f"pytorch_{shard.stem}.bin"))
            shard.unlink()
        index = folder / "model.safetensors.index.json"
        text = re.sub(r'"model-(\w+-of-\w+)\.safetensors"', r'"pytorch_model-\1.bin"', index.read_text())
        (folder / "pytorch_model.bin.index.json").write_text(text)
        index.unlink()
    if form in ("processor_config", "neither"):
        (folder / "preprocessor_config.json").unlink()
    if form == "processor_config":
        text = '{"feature_extractor": {"do_normalize": false, "sampling_rate": 8000}, "processor_class": "X"}'
        (folder / "processor_config.json").write_text(text)
    hub.add("org/variant", NEW, folder)
    expected = load_encoder(str(folder))
    for _ in ("from the Hub", "offline"):
        caplog.clear()
        encoder: Any = load_encoder("org/variant")
        assert encoder.identity()["weights_digest"] == expected.identity()["weights_digest"]
        assert (encoder.normalised, encoder.sampling_rate) == (
            (False, 8000) if form == "processor_config" else (True, 16_000)
        )
        assert ("it is taken to want 16 kHz" in caplog.text) == (form == "neither")
        offline()


def test_a_trained_encoder_keeps_either_file_of_settings(published: Path, tmp_path: Path) -> None:
    folder = variant(published, tmp_path / "variant")
    settings = (folder / "preprocessor_config.json").read_text()
    (folder / "processor_config.json").write_text(f'{{"feature_extractor": {settings}}}')
    (tmp_path / "saved").mkdir()
    load_encoder(str(folder), trainable=True).save(tmp_path / "saved")  # type: ignore[attr-defined]
    for file in ("preprocessor_config.json", "processor_config.json"):
        assert (tmp_path / "saved" / file).read_text() == (folder / file).read_text()


def test_a_transfer_that_breaks_off_goes_on(hub: Hub) -> None:
    hub.breaks[WEIGHTS] = [100_000, 0, 50_000]
    loaded("hubert")
    assert hub.ranges(WEIGHTS) == [None, "bytes=100000-", "bytes=100000-", "bytes=150000-"]


def test_what_has_arrived_is_kept_for_the_next_command(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.breaks[WEIGHTS] = [200_000, 0, 0]
    sentence = refused()
    size = (hub.commits[HUBERT][PINNED] / WEIGHTS).stat().st_size
    assert f"{WEIGHTS} of '{HUBERT}' at revision" in sentence
    assert f"the transfer broke off after 200,000 of {size:,} bytes" in sentence
    assert "run the command again, which goes on from there" in sentence
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert "nor in the Hugging Face cache but for 200,000 bytes of a download that broke off, and" in refused()
    loaded("hubert")
    assert hub.ranges(WEIGHTS)[-1] == "bytes=200000-"
    assert not list((tmp_path / "cache").rglob("*.incomplete"))


def test_a_hub_that_sends_no_parts_sends_all_again(hub: Hub) -> None:
    hub.breaks[WEIGHTS], hub.whole = [100_000], True
    loaded("hubert")
    assert hub.ranges(WEIGHTS) == [None, "bytes=100000-"]


def test_other_bytes_than_announced_are_refused_and_not_kept(hub: Hub) -> None:
    hub.damaged.add(WEIGHTS)
    assert f"What arrived of {WEIGHTS} of '{HUBERT}' is not what the Hub announced" in refused()
    hub.damaged.clear()
    loaded("hubert")
    assert hub.ranges(WEIGHTS) == [None, None]


def test_a_token_goes_to_the_hub_and_nowhere_else(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    loaded("hubert")
    assert {one.token for one in hub.asked if "/stored/" not in one.path} == {"Bearer hf_secret"}
    assert {one.token for one in hub.asked if "/stored/" in one.path} == {None}


def test_a_renamed_repository_is_followed(hub: Hub, published: Path) -> None:
    hub.add("org/new", NEW, published)
    hub.renamed["org/old"] = "org/new"
    assert loaded("org/old")[0] == NEW


@pytest.mark.parametrize(
    ("refusal", "token", "expected"),
    [
        ((401, "GatedRepo", ""), None, "is gated; accept its licence at .* and log in with `hf auth login`, or name a"),
        ((403, "GatedRepo", ""), "hf_secret", "is gated; .* with the account of the token of the variable HF_TOKEN,"),
        ((401, "", "Invalid credentials in Authorization header"), "hf_secret", "not accept the token of the variable"),
        ((401, "RepoNotFound", ""), None, "neither a folder nor a Hugging Face repository .* without logging in; look"),
        ((404, "RepoNotFound", ""), "hf_secret", "nor a Hugging Face repository .* with the token of the variable HF_"),
        ((404, "RevisionNotFound", ""), None, f"'{HUBERT}' has no revision '{PINNED}'; name a branch"),
        ((403, "", "Access to it is closed"), None, "the Hub answers 403 Access to it is closed; ask for access at"),
        ((429, "", ""), None, "the Hub answers 429 Too Many Requests; try again later"),
        ((503, "", ""), None, "the Hub answers 503 Service Unavailable; try again later"),
    ],
)
@pytest.mark.parametrize("where", [HUBERT, f"GET {WEIGHTS}"])
def test_a_refusal_gets_one_sentence(
    refusal: tuple[int, str, str], token: str | None, expected: str, where: str, hub: Hub, monkeypatch: Any
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    if where.startswith("GET") and "Revision" in refusal[1]:
        where = f"HEAD {WEIGHTS}"
    hub.refusals[where] = refusal
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waits {seconds} s"))
    sentence = refused()
    assert re.search(expected, sentence), sentence
    assert '[encoders] hubert = "path/to/folder"' in sentence
    assert "secret" not in sentence


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("tf_model.h5", "holds weights for TensorFlow alone"),
        ("adapter_config.json", "holds an adapter of PEFT"),
        ("hyperparams.yaml", "holds a model of SpeechBrain"),
    ],
)
@pytest.mark.parametrize("config", [True, False])
def test_a_repository_of_another_library_is_told_how_to_use(
    file: str, message: str, config: bool, hub: Hub, published: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / file).write_text("{}")
    if config:
        shutil.copyfile(published / "config.json", folder / "config.json")
    hub.add("org/foreign", "f" * 40, folder)
    assert message in refused("org/foreign")


def test_a_wrong_token_of_the_login_is_named_by_its_file(hub: Hub, tmp_path: Path) -> None:
    hub.accepted = "hf_right"
    (tmp_path / "token").write_text("hf_wrong")
    assert f"The Hub does not accept the token in '{tmp_path / 'token'}'" in refused()
    (tmp_path / "token").write_text("hf_right")
    loaded("hubert")


def test_a_token_that_cannot_be_sent_is_not_shown(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_sécret")
    sentence = refused()
    assert "does not accept the token of the variable HF_TOKEN (it holds letters that no header may)" in sentence
    assert "cret" not in sentence


def test_no_network_is_told_by_what_it_came_to(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    template = "/{repo_id}/resolve/{revision}/{filename}"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for address, reason in {
            "http://127.0.0.1:9": r"\[Errno \d+\] Connection refused",
            "http://nowhere.invalid": r"\[Errno -\d+\] [^()]*",
            f"http://127.0.0.1:{silent.getsockname()[1]}": "no answer in time",
        }.items():
            monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + template)
            monkeypatch.setattr("embedkit.encoders.hub.CONNECTION_SECONDS", 0.2)
            assert re.search(rf"nor can the Hub be reached \({reason}\); look at the network, or name", refused())


def test_another_revision_in_the_cache_is_named(hub: Hub, published: Path, offline: Any) -> None:
    hub.add(HUBERT, NEW, published)
    loaded(f"{HUBERT}@{NEW}")
    offline()
    sentence = refused()
    assert f"at revision '{PINNED}'" in sentence
    assert "HF_HUB_OFFLINE forbids asking the Hub; unset it" in sentence
    assert f"take the revision that the cache holds by --encoder {HUBERT}@{NEW}, or" in sentence
    assert loaded(f"{HUBERT}@{NEW}")[0] == NEW


def test_short_commits_branches_and_tags_lead_to_a_whole_commit(hub: Hub, published: Path, offline: Any) -> None:
    for commit in (OLD, "1" * 40, NEW):
        hub.add("org/many", commit, published)
    hub.tags |= {"v1": OLD, "beef": OLD}
    assert "'11111' of 'org/many' is the beginning of 2 commits" in refused("org/many@11111")
    assert "has no revision '33333'" in refused("org/many@33333")
    for revision, commit in {"22222": NEW, "v1": OLD, "main": NEW, "beef": OLD}.items():
        assert loaded(f"org/many@{revision}")[0] == commit
    offline()
    for revision, commit in {"222222": NEW, "11111": OLD, "v1": OLD}.items():
        assert loaded(f"org/many@{revision}")[0] == commit
    assert "'33333'" in refused("org/many@33333")


def test_an_index_that_leads_elsewhere_is_refused(hub: Hub, published: Path, tmp_path: Path) -> None:
    folder = variant(published, tmp_path / "variant")
    (folder / WEIGHTS).unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../config.json"}}')
    hub.add("org/variant", NEW, folder)
    for name in ("org/variant", str(folder)):
        assert "names no files of weights beside it" in refused(name)


def test_a_disk_without_room_is_named_before_and_while_it_fills(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (hub.commits[HUBERT][PINNED] / WEIGHTS).stat().st_size
    usage = type(shutil.disk_usage("."))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 5000, 5000))
        assert f"({size:,} bytes are needed and 5,000 are free)" in refused()
    assert hub.ranges(WEIGHTS) == []


def test_a_cut_file_in_the_cache_is_named_with_what_to_do(hub: Hub, tmp_path: Path) -> None:
    loaded("hubert")
    (blob,) = (path for path in (tmp_path / "cache").rglob("blobs/*") if path.stat().st_size > 100_000)
    blob.write_bytes(blob.read_bytes()[:1000])
    sentence = refused()
    assert f"{WEIGHTS} is cut short (1,000 bytes); delete '{blob}', and the same command downloads it anew" in sentence
    blob.unlink()
    loaded("hubert")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_tones(tmp_path / "tones") / "corpus.csv"


def environment(hub: Hub, tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING_FACE"))}
    return kept | {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "COLUMNS": "80", **more}


def command(corpus: Path, *options: str) -> list[str]:
    line = ["extract", str(corpus), "--encoder", "hubert", "--layers", "last", "--limit", "4", "--out", "store.h5"]
    return [sys.executable, "-m", "embedkit", *line, *options]


@pytest.mark.slow
def test_a_command_fetches_with_a_bar_on_a_terminal_and_then_runs_offline(
    hub: Hub, corpus: Path, tmp_path: Path
) -> None:
    leader, follower = pytest.importorskip("pty").openpty()
    process = subprocess.Popen(
        command(corpus),
        stdout=subprocess.PIPE,
        stderr=follower,
        cwd=tmp_path,
        env=environment(hub, tmp_path, TERM="xterm"),
    )
    os.close(follower)
    shown = read_all(leader)
    assert process.wait() == 0, shown
    assert process.stdout is not None
    assert process.stdout.read().decode().splitlines() == ["store.h5"]
    process.stdout.close()
    lines = {line.strip() for line in re.split(r"\r|\n", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))}
    assert any(re.match(rf"{WEIGHTS} .*/\d+\.\d kB", line) for line in lines), lines
    with embedkit.open_store(tmp_path / "store.h5") as store:
        assert store.encoder["revision"] == PINNED

    hub.refusals[HUBERT] = (503, "", "")
    asked = len(hub.asked)
    again = subprocess.run(
        command(corpus, "--overwrite", "--limit", "5"),
        cwd=tmp_path,
        env=environment(hub, tmp_path, HF_HUB_OFFLINE="1"),
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    assert len(hub.asked) == asked


def read_all(leader: int) -> str:
    shown = b""
    while True:
        try:
            part = os.read(leader, 4096)
        # So Linux says that nobody writes to it any more.
        except OSError:
            part = b""
        if not part:
            os.close(leader)
            return shown.decode()
        shown += part


def test_a_full_disk_ends_a_command_with_one_sentence_and_what_arrived_is_kept(
    hub: Hub, corpus: Path, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    run = subprocess.run(
        command(corpus),
        cwd=tmp_path,
        env=environment(hub, tmp_path, PYTHONDONTWRITEBYTECODE="1"),
        preexec_fn=limit,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout) == (1, "")
    size = (hub.commits[HUBERT][PINNED] / WEIGHTS).stat().st_size
    # Neither a bar nor what huggingface_hub warns of.
    (error,) = run.stderr.splitlines()
    assert error.startswith(f"Error: There is too little room for {WEIGHTS} of '{HUBERT}' in '{tmp_path / 'home'}")
    assert f"({size - 300_000:,} bytes are needed and " in error
    (part,) = (tmp_path / "home").rglob("*.incomplete")
    assert part.stat().st_size == 300_000
