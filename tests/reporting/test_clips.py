"""Clips of a report: those that are what was encoded play, all others are counted and named."""

from __future__ import annotations

import base64
import io
import json
import shutil
import webbrowser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from typer.testing import CliRunner

import embedkit
from embedkit.cli import app
from embedkit.errors import RunError
from embedkit.reporting.report import clips
from tests.documents import write_tiny_emodb
from tests.reporting.browser import Browser, find_browser
from tests.reporting.test_report import Page
from tests.reporting.test_report_browser import POINTS, middle, unfold, wait


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen tones, of which one is longer than a clip; heads that know nothing."""
    folder = tmp_path_factory.mktemp("study")
    write_tiny_emodb(folder / "corpus")
    long = np.sin(np.arange(20 * 16_000) * 2 * np.pi * 400 / 16_000)
    soundfile.write(folder / "corpus" / "wav" / "03a01Wa.wav", 0.1 * long, 16_000)
    store = embedkit.extract(folder / "corpus", encoder="mfcc", out=folder / "mfcc.h5")
    options: dict[str, Any] = {"head": "linear", "seeds": 1, "epochs": 1, "lr": (1e-5,), "threads": 1}
    embedkit.fit(store, loss="ce", runs=folder / "runs", **options)
    return folder


def read_clips(page: Page) -> list[str]:
    found: list[str] = json.loads(page.scripts[0])
    return found


def test_clips_are_short_mp3_of_their_utterances(study: Path) -> None:
    text = embedkit.write_report(study / "runs", study / "audio.html", audio=True).read_text(encoding="utf-8")
    page = Page(text)
    assert "script-src 'unsafe-inline'; media-src data:\"" in text
    assert "16 of 16 utterances shown here can be played" in page.text
    data = {
        name: data for one in json.loads(page.scripts[1]) for name, data in one["data"].items() if "clip" in one["data"]
    }
    places = dict(zip(data["id"], data["clip"], strict=True))
    assert sorted(places.values()) == list(range(16))
    for name, place in places.items():
        sound = base64.b64decode(read_clips(page)[place])
        assert soundfile.info(io.BytesIO(sound)).format == "MP3"
        samples, rate = soundfile.read(io.BytesIO(sound))
        whole, own_rate = soundfile.read(study / "corpus" / "wav" / f"{name}.wav")
        assert rate == clips.RATE
        assert len(samples) / rate == pytest.approx(min(len(whole) / own_rate, 15), abs=0.2)
        assert find_pitch(samples, rate) == pytest.approx(find_pitch(whole, own_rate), abs=5)


def find_pitch(samples: NDArray[np.float64], rate: int) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples))


def test_none_are_embedded_unless_asked_for(study: Path) -> None:
    text = embedkit.write_report(study / "runs", study / "mute.html").read_text(encoding="utf-8")
    assert "media-src" not in text
    assert "audio" not in Page(text).tags


def test_missing_and_changed_files_are_counted_and_named_once(study: Path, tmp_path: Path) -> None:
    wav, kept = study / "corpus" / "wav", tmp_path / "kept"
    shutil.copytree(wav, kept)
    told: list[str] = []
    try:
        (wav / "08a01Wa.wav").unlink()
        (wav / "08a02Wa.wav").unlink()
        shutil.copy(kept / "03a02Wa.wav", wav / "10a01Ta.wav")
        page = Page(
            embedkit.write_report(study / "runs", tmp_path / "r.html", audio=True, tell=told.append).read_text("utf-8")
        )
    finally:
        shutil.copytree(kept, wav, dirs_exist_ok=True)
    sentences = [sentence for sentence in told if "played" in sentence]
    assert sentences[0].startswith("13 of 16 utterances shown here can be played")
    assert {sentence.partition("(")[2] for sentence in sentences[1:]} <= {
        "08a01Wa, 08a02Wa): the file is missing.",
        "08a02Wa, 08a01Wa): the file is missing.",
        "10a01Ta): the file is not the one that was encoded.",
    }
    assert len(sentences) == 3
    assert all(page.text.count(sentence) == 1 for sentence in sentences)
    assert len(read_clips(page)) == 13


def test_what_has_no_room_is_counted(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "MOST_LETTERS", 20_000)
    page = Page(embedkit.write_report(study / "runs", tmp_path / "r.html", audio=True).read_text("utf-8"))
    playing = len(read_clips(page))
    assert 0 < playing < 16
    assert sum(map(len, read_clips(page))) <= 20_000
    assert f"{playing} of 16 utterances shown here can be played" in page.text
    assert "the page would be larger than 25 MB" in page.text


def test_a_store_that_is_gone_plays_nothing_and_old_libraries_are_told(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (study / "mfcc.h5").rename(study / "gone.h5")
    try:
        page = Page(embedkit.write_report(study / "runs", tmp_path / "r.html", audio=True).read_text("utf-8"))
    finally:
        (study / "gone.h5").rename(study / "mfcc.h5")
    assert read_clips(page) == []
    assert "cannot be played" in page.text
    monkeypatch.setattr(soundfile, "available_formats", dict)
    with pytest.raises(RunError, match=r"does not write MP3, expected 1.1 or later"):
        embedkit.write_report(study / "runs", tmp_path / "r.html", audio=True)


def test_a_store_without_paths_plays_nothing(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = embedkit.open_store(study / "mfcc.h5").columns
    lacking = property(lambda _: tuple(name for name in whole if name != "path"))
    monkeypatch.setattr("embedkit.store.reader.Store.columns", lacking)
    page = Page(embedkit.write_report(study / "runs", tmp_path / "r.html", audio=True).read_text("utf-8"))
    assert read_clips(page) == []
    assert "mfcc.h5' has no column path." in page.text


@pytest.mark.parametrize("found", [True, False])
def test_the_command_opens_the_report(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: bool
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(webbrowser, "open_new_tab", lambda address: asked.append(address) or found)
    out = tmp_path / "my report.html"
    words = ["report", str(study / "runs"), "--out", str(out), "--audio"]
    result = CliRunner().invoke(app, [*words, "--open"], prog_name="embedkit")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}\n"
    assert asked == [out.as_uri()]
    assert "can be played" in result.stderr
    assert ("No browser was found here" in result.stderr) is not found


@pytest.mark.skipif(find_browser() is None, reason="there is no Chromium or Chrome on this machine")
def test_a_browser_plays_them(study: Path, tmp_path: Path) -> None:
    report = embedkit.write_report(study / "runs", tmp_path / "r.html", audio=True)
    program = find_browser()
    assert program is not None
    with Browser(program, tmp_path / "profile") as page:
        page.open(report)
        wait(page, "document.documentElement.classList.contains('drawn')")
        unfold(page)
        assert page.run("document.getElementById('player').hidden")
        sound = "document.querySelector('#player audio')"
        told = "document.querySelector('#player span').textContent"
        page.point(*middle(page, f"{POINTS}[3]"), click=True)
        wait(page, f"{sound}.duration > 0.2 && {sound}.played.length > 0")
        assert page.run("document.querySelector('output').innerText").startswith(f"utterance: {page.run(told)}\n")
        button = "document.querySelectorAll('tr[data-clip] .play')[0]"
        page.run(f"{button}.focus()")
        page.press(" ")
        name = page.run(f"{button}.closest('tr').cells[0].firstChild.textContent")
        wait(page, f"{told} === '{name}' && {sound}.duration > 0.2 && {sound}.played.length > 0")
        assert page.errors == []
        # The browser's own player has pictures.
        assert all(address.startswith("data:") for address in page.requests if address != report.as_uri())
