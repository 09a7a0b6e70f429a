"""Names, folders and Hugging Face ids: what is loaded, from where, and what is said when it is unavailable."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from embedkit.encoders import ENCODERS, encoder_label, load_encoder, split_name
from embedkit.encoders.published import PUBLISHED, TABLE
from embedkit.encoders.sources import is_repository
from embedkit.errors import EncoderError, UnknownNameError
from tests.encoders.checkpoints import collect, speechlike, write_conv_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_conv_checkpoint(tmp_path_factory.mktemp("folder") / "my hubert", "hubert")


SCRIPT = """
import json, sys, time, torch, transformers
from embedkit.encoders import load_encoder
for name in sys.argv[1:]:
    start = time.monotonic()
    try:
        identity = load_encoder(name).identity()
        answer = f"{identity['source']} {identity['revision']}"
    except Exception as error:
        answer = f"{type(error).__name__} {error}"
    print(json.dumps([name, answer, time.monotonic() - start]))
"""


@pytest.fixture(scope="module")
def without_network(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float]]:
    """What names lead to, and after how many seconds, where the Hub's address leads nowhere."""
    home = tmp_path_factory.mktemp("huggingface")
    tiny, bare = (home / "hub" / f"models--org--{name}" for name in ("tiny", "bare"))
    for repository in (tiny, bare):
        shutil.copytree(folder, repository / "snapshots" / COMMIT)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
    (bare / "snapshots" / COMMIT / "preprocessor_config.json").unlink()
    names = ["hubert", "org/tiny", "org/tiny@main", f"org/tiny@{COMMIT}", "org/bare"]
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(home)}
    environment.pop("HF_HUB_OFFLINE", None)
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *names], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    return {name: (answer, seconds) for name, answer, seconds in map(json.loads, run.stdout.splitlines())}


def test_the_table_needs_neither_torch_nor_transformers() -> None:
    code = "import sys, embedkit.encoders as e; assert list(e.ENCODERS); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_published_sources_are_registered_and_pinned_by_whole_commits() -> None:
    assert set(PUBLISHED) <= set(ENCODERS)
    for source in PUBLISHED.values():
        assert is_repository(source)
        assert "@" not in source or re.fullmatch(r"[0-9a-f]{40}", source.partition("@")[2])


def test_every_published_encoder_tells_what_it_is_in_one_line() -> None:
    for name, entry in TABLE.items():
        line = ENCODERS.summary(name)
        assert all(str(fact) in line for fact in (entry.millions, entry.licence, entry.languages, entry.layers))
        assert ("main branch" in line) is ("@" not in entry.source)
        assert "\n" not in line


def test_a_registered_name_leads_where_the_configuration_says(folder: Path) -> None:
    encoder = load_encoder("hubert", sources={"hubert": str(folder)})
    assert encoder.name == "hubert"
    assert encoder.identity()["source"] == str(folder)


def test_a_name_of_ones_own_leads_where_the_configuration_says(folder: Path) -> None:
    assert load_encoder("mine+1", sources={"mine+1": str(folder)}).identity()["source"] == str(folder)


def test_parts_are_concatenated(folder: Path) -> None:
    encoder = load_encoder("hubert+mfcc", layers="1-2", sources={"hubert": str(folder)})
    assert (encoder.layers, encoder.dimensions) == ((1, 2), 64 + 39)
    [[first, _]] = collect(encoder, [speechlike(6_000, 0)])
    [[alone]] = collect(load_encoder(str(folder), layers="1"), [speechlike(6_000, 0)])
    assert torch.equal(first[:, :64], alone)


@pytest.mark.parametrize("name", ["mfcc", "logmel"])
def test_acoustic_encoders_have_one_layer_and_no_weights(name: str, folder: Path) -> None:
    assert load_encoder(name, layers="last").layers == (0,)
    with pytest.raises(EncoderError, match="'6' are not there; expected 0, the only one"):
        load_encoder(name, layers="6")
    with pytest.raises(EncoderError, match="no window"):
        load_encoder(name, window=30)
    with pytest.raises(EncoderError, match="has no weights"):
        load_encoder(name, sources={name: str(folder)})


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'hubert'\?.*local folder, a Hugging Face id"):
        load_encoder("hubrt")
    with pytest.raises(UnknownNameError, match=r"Did you mean 'my-model'\?.* my-model, "):
        load_encoder("mymodel", sources={"my-model": "org/model"})


def test_a_misspelt_source_is_named_where_published_weights_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise EncoderError("The Hub cannot be reached.")

    monkeypatch.setattr("embedkit.encoders.families.load_pretrained", fail)
    with pytest.raises(EncoderError) as caught:
        load_encoder("hubert", sources={"hubrt": "weights", "mine": "org/model"})
    assert str(caught.value).endswith("reached. [encoders] has a source for 'hubrt': did you mean 'hubert' there?")
    for sources in ({}, {"mine": "org/model"}, {"hubert": "org/model", "hubrt": "weights"}):
        with pytest.raises(EncoderError, match=r"reached\.$"):
            load_encoder("hubert", sources=sources)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere", "a/../b"])
def test_a_folder_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(EncoderError, match=f"no folder '{re.escape(name)}'"):
        load_encoder(name)


def test_a_file_in_the_place_of_its_folder_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=f"is a file; expected the folder of .*: name '{re.escape(str(folder))}'"):
        load_encoder(str(folder / "model.safetensors"))
    (tmp_path / "weights.ckpt").touch()
    for sources in ({}, {"mine": str(tmp_path / "weights.ckpt")}):
        with pytest.raises(EncoderError, match=r"is a file; expected .*: name such a folder"):
            load_encoder("mine" if sources else str(tmp_path / "weights.ckpt"), sources=sources)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("hubert", "hubert"),
        ("facebook/hubert-base-ls960", "facebook--hubert-base-ls960"),
        ("org/name@main", "org--name@main"),
        ("hubert+mfcc", "hubert+mfcc"),
        ("..", None),
        ("../../..", None),
        ("/", None),
        ("a/../../etc", "etc"),
        ("a b\nc", "a-b-c"),
        ("C:\\models\\x", "C--models-x"),
    ],
)
def test_labels_are_safe_file_names(name: str, label: str | None) -> None:
    made = encoder_label(name)
    assert label is None or made == label
    assert made
    assert not made.startswith(".")
    assert not set(made) & {"/", "\\", "\n", " "}
    assert ".." not in made


def test_a_folder_is_labelled_by_its_last_part(folder: Path) -> None:
    assert encoder_label(str(folder)) == encoder_label(f"{folder}/") == "my-hubert"


def test_a_folder_may_hold_a_plus(tmp_path: Path) -> None:
    (tmp_path / "a+b").mkdir()
    assert split_name(str(tmp_path / "a+b")) == [str(tmp_path / "a+b")]
    assert split_name("hubert+mfcc") == ["hubert", "mfcc"]


def test_without_a_network_one_sentence_says_what_to_do(without_network: dict[str, tuple[str, float]]) -> None:
    sentence, seconds = without_network["hubert"]
    assert sentence.startswith("EncoderError Cannot get config.json of 'facebook/hubert-base-ls960' at revision")
    assert '[encoders] hubert = "path/to/folder"' in sentence
    assert "mfcc" in sentence
    assert "\n" not in sentence
    assert seconds < 15


@pytest.mark.parametrize("name", ["org/tiny", "org/tiny@main", f"org/tiny@{COMMIT}"])
def test_a_cached_repository_loads_without_a_network_and_tells_its_commit(
    name: str, without_network: dict[str, tuple[str, float]]
) -> None:
    assert without_network[name][0] == f"org/tiny {COMMIT}"


def test_a_cached_repository_without_its_preprocessor_is_not_guessed(
    without_network: dict[str, tuple[str, float]],
) -> None:
    assert without_network["org/bare"][0].startswith("EncoderError Cannot get preprocessor_config.json")
