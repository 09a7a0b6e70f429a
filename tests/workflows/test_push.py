"""A run that was pushed is found again by the name of its repository, here and without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import embedkit
from embedkit.cli import app
from embedkit.errors import ConfigError, EmbedkitError
from tests.encoders.checkpoints import write_conv_checkpoint
from tests.encoders.hub import serve
from tests.encoders.hub_uploads import TOKEN
from tests.workflows.tones import fit_tones, write_tones


def test_a_pushed_run_predicts_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    weights = write_conv_checkpoint(tmp_path / "weights", "hubert", num_hidden_layers=1)
    record = fit_tones(write_tones(tmp_path / "corpus"), str(weights), seeds=1, epochs=1)
    clips = [tmp_path / "corpus" / "00.wav"]
    (expected,) = embedkit.predict(record, clips)
    with serve() as hub:
        hub.ask(monkeypatch, tmp_path)
        for wrong in ({"public": True}, {"push": "me/tones", "format": "onnx"}, {"push": ""}):
            with pytest.raises(ConfigError, match="--p"):
                embedkit.export_run(record, **wrong)
        hub.refusals = {"create": (403, "", "You don't have the rights")}
        with pytest.raises(EmbedkitError, match="may not write to 'me/tones'"):
            embedkit.export_run(record, push="me/tones")
        # What was not pushed is not there either: the same command can be given again.
        hub.refusals = {}
        said: list[str] = []
        pushed = embedkit.export_run(record, push="me/tones", tell=said.append).pushed or ""
        assert said[-1].endswith("to me/tones, which nobody but its owners may read.")
        commit = pushed.removeprefix("me/tones@")
        assert set(hub.commits["me/tones"][commit].glob("*.md")) == {hub.commits["me/tones"][commit] / "README.md"}
        shutil.rmtree(weights)
        (hub.commits["me/tones"][commit] / "pytorch_model.bin").write_bytes(b"never fetched")
        told: list[str] = []
        (found,) = embedkit.predict("me/tones", clips, tell=told.append)
        assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
        assert told[0].startswith(f"me/tones is taken at its commit {commit}; ")
        assert not hub.ranges("pytorch_model.bin")
        with pytest.raises(EmbedkitError, match=r"neither a folder nor a Hugging Face repository 'me/other' with"):
            embedkit.predict("me/other", clips)
        hub.add("me/broken", "3" * 40, tmp_path / "corpus")
        with pytest.raises(EmbedkitError, match=r"'me/broken' holds no config.json\.$"):
            embedkit.predict("me/broken", clips)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    result = CliRunner().invoke(app, ["predict", pushed, str(clips[0]), "--out", "found.csv"])
    assert result.exit_code == 0, result.output
    assert Path("found.csv").read_text().startswith("path,label,")
