"""The page on which a run is tried: for this machine alone, of bounded size, and heard by a browser's microphone."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import embedkit
from embedkit.corpora.clips import Clip
from embedkit.errors import AudioError, ConfigError
from embedkit.training.runs import RunRecord
from embedkit.workflows import try_run
from embedkit.workflows.cut_clips import cut_windows
from embedkit.workflows.try_run import VoiceServer, open_voice_server
from tests.reporting.browser import Browser, find_browser
from tests.workflows.tones import RATE, fit_tones, write_tones

PROGRAM = find_browser()


@contextmanager
def running(server: VoiceServer) -> Iterator[VoiceServer]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    with server:
        yield server
        server.shutdown()
    thread.join()


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return fit_tones(write_tones(tmp_path_factory.mktemp("tones") / "corpus"), "mfcc", head=["linear"], seeds=1)


@pytest.fixture(scope="module")
def served(record: RunRecord) -> Iterator[VoiceServer]:
    with running(open_voice_server(record, device="cpu")) as server:
        yield server


def ask(
    server: VoiceServer, method: str, name: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    path = name if name.startswith("/") else f"/{server.secret}/{name}"
    with closing(connection):
        connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def write_tone(path: Path, seconds: float, pitch: float = 900) -> bytes:
    time = np.arange(int(RATE * seconds)) / RATE
    noise = 0.02 * np.random.default_rng(0).normal(size=len(time))
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch * time) + noise, RATE)
    return path.read_bytes()


def test_the_whole_and_every_window_are_heard_as_predict_does(
    served: VoiceServer, record: RunRecord, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    status, _, body = ask(served, "POST", "hear", write_tone(path, 2.7))
    told = json.loads(body)
    assert (status, told["seconds"]) == (200, 2.7)
    (whole,) = embedkit.predict(record, [path])
    assert told["whole"] == pytest.approx(list(whole.probabilities.values()))
    assert [(one["start"], one["end"]) for one in told["windows"]] == cut_windows(0.0, 2.7, 2.0, 0.5)
    stretch = Clip(name="a", path=path, start=0.5, end=2.5)
    (second,) = embedkit.predict(record, [stretch])
    assert told["windows"][1]["values"] == pytest.approx(list(second.probabilities.values()))


def test_the_page_comes_with_its_rules(served: VoiceServer) -> None:
    status, headers, body = ask(served, "GET", "")
    assert (status, headers["Content-Type"], headers["Referrer-Policy"]) == (
        200, "text/html; charset=utf-8", "no-referrer",
    )  # fmt: skip
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert b"http" not in body
    about = json.loads(ask(served, "GET", "about")[2])
    assert (about["names"], about["rates"]) == (["high", "low"], False)
    assert served.server_address[0] == "127.0.0.1"


def test_who_may_not_ask_is_told_in_a_sentence(served: VoiceServer) -> None:
    own = f"127.0.0.1:{served.server_port}"
    theirs = f"evil.example:{served.server_port}"
    cases: list[tuple[int, str, tuple[str, str, bytes | None], dict[str, str]]] = [
        (403, "the address that embedkit try printed", ("GET", "", None), {"Host": "evil.example"}),
        (
            403,
            "the address that embedkit try printed",
            ("GET", "", None),
            {"Host": theirs},
        ),
        (403, "Another page may not ask", ("POST", "hear", b"x"), {"Host": own, "Origin": "https://evil.example"}),
        (403, "lacks its secret", ("GET", "/", None), {}),
        (403, "lacks its secret", ("POST", "/wrong/hear", b"x"), {}),
        (403, "lacks its secret", ("POST", "/%ff/hear", b"x"), {}),
        (404, "nothing at this address", ("GET", "../page.py", None), {}),
        (404, "nothing at this address", ("POST", "about", b"x"), {}),
        (411, "does not say how long", ("POST", "hear", None), {"Content_Length": "-1"}),
        (413, "more than 32 MB", ("POST", "hear", None), {"Content_Length": "32000001"}),
        (400, "Nothing was recorded", ("POST", "hear", b""), {}),
        (422, "Cannot decode 'recording' as audio", ("POST", "hear", b"no audio at all"), {}),
    ]
    for status, sentence, (method, name, body), headers in cases:
        found, told, answer = ask(served, method, name, body, **headers)
        error = json.loads(answer)["error"]
        assert (found, sentence in error) == (status, True), (found, error)
        assert told["Content-Type"] == "application/json"
        assert "\n" not in error
        assert "/tmp" not in error


def test_what_is_too_long_or_cannot_be_heard_is_told(record: RunRecord, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(try_run, "MOST_SECONDS", 2.0)
    server = open_voice_server(record, device="cpu")
    with running(server):
        status, _, answer = ask(server, "POST", "hear", write_tone(tmp_path / "a.wav", 2.5))
        assert (status, json.loads(answer)["error"]) == (
            422, "The recording lasts 2.5 s, at most 2 s are heard; cut it.",
        )  # fmt: skip
        with pytest.raises(ConfigError, match=rf"--port {server.server_port} cannot be used"):
            open_voice_server(record, device="cpu", port=server.server_port)

    def fail(path: Path) -> dict[str, Any]:
        raise AudioError(f"The audio in {str(path)!r} is spoilt.") if path else MemoryError

    with running(VoiceServer(fail, {})) as broken:
        status, _, answer = ask(broken, "POST", "hear", b"x")
        assert (status, json.loads(answer)["error"]) == (422, "The audio in 'recording' is spoilt.")


def wait_for(browser: Browser, script: str) -> Any:
    end = time.monotonic() + 30
    while not (found := browser.run(script)):
        assert time.monotonic() < end, browser.run("document.getElementById('status').textContent")
        time.sleep(0.05)
    return found


@contextmanager
def recording(program: str, served: VoiceServer, heard: Path, seconds: float) -> Iterator[Browser]:
    """Open the page in a browser whose microphone hears a file, record for some seconds, and stop."""
    words = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    words.append(f"--use-file-for-fake-audio-capture={heard}")
    with Browser(program, heard.parent / "profile", *words) as page:
        page.open(served.address, width=400)
        wait_for(page, "!document.getElementById('record').disabled")
        page.run("document.getElementById('record').click()")
        wait_for(page, f"parseFloat(document.getElementById('status').textContent.slice(11)) > {seconds}")
        page.run("document.getElementById('record').click()")
        yield page


@pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium or Chrome on this machine")
def test_a_microphone_that_is_switched_off_is_not_judged(served: VoiceServer, tmp_path: Path) -> None:
    assert PROGRAM is not None
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    with recording(PROGRAM, served, tmp_path / "silent.wav", seconds=0.1) as page:
        wait_for(page, "document.getElementById('status').textContent.startsWith('Only silence was recorded')")
        assert page.run("document.getElementById('answer').hidden")


@pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium or Chrome on this machine")
def test_a_browser_records_its_microphone(served: VoiceServer, tmp_path: Path) -> None:
    assert PROGRAM is not None
    write_tone(tmp_path / "spoken.wav", 5)
    with recording(PROGRAM, served, tmp_path / "spoken.wav", seconds=2.6) as page:
        assert wait_for(page, "document.getElementById('verdict').textContent").startswith("high, ")
        assert page.run("document.querySelectorAll('#rows .strip .line').length") == 2
        assert page.run("document.querySelectorAll('#windows tr').length") >= 2
        assert page.run("document.documentElement.scrollWidth") <= 400
        assert 2 < wait_for(page, "document.getElementById('sound').duration") < 30
        others = [one for one in page.requests if not one.startswith((served.address, "blob:", "data:"))]
        assert others == []
        assert page.errors == []
