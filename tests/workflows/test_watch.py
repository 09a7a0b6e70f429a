"""A study's live page: on this machine alone, made again where runs have come, and complete in the end."""

from __future__ import annotations

import http.client
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from embedkit.workflows import watch
from embedkit.workflows.watch import watch_runs


def get(url: str, path: str = "/", host: str | None = None, method: str = "GET") -> tuple[int, str, dict[str, str]]:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port or 0, timeout=10)
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), dict(answer.getheaders())


def render(runs: Path, out: Path) -> None:
    if found := list(runs.rglob("metrics.json")):
        made = int(out.read_text().partition(" ")[0]) if out.exists() else 0
        out.write_text(f"{made + 1} for {len(found)} runs")


def add_run(runs: Path, name: str) -> None:
    (runs / name).mkdir(parents=True)
    (runs / name / "metrics.json").write_text("{}")


def test_the_page_follows_the_runs_and_the_last_one_asks_no_more(tmp_path: Path) -> None:
    runs, last = tmp_path / "<runs>", []
    with watch_runs(runs, render=render) as url:
        status, text, headers = get(url)
        assert (status, headers["Refresh"]) == (200, "10")
        assert "There are no runs below" in text
        assert "<runs>" not in text
        add_run(runs, "one")
        assert [get(url)[1] for _ in range(2)] == ["1 for 1 runs"] * 2
        add_run(runs, "two")
        assert get(url)[1] == "2 for 2 runs"
        reader = threading.Timer(0.1, lambda: last.append(get(url)))
        reader.start()
    reader.join()
    assert [(text, "Refresh" in headers) for _, text, headers in last] == [("2 for 2 runs", False)]
    with pytest.raises(ConnectionRefusedError):
        get(url)


def test_a_report_that_is_not_done_ends_with_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(watch.sys, "executable", str(sleeper))
    monkeypatch.setattr(watch, "SECONDS", 0.05)
    add_run(tmp_path, "one")
    rendering = watch.RenderingApart()
    monkeypatch.setattr(watch, "RenderingApart", lambda: rendering)
    with watch_runs(tmp_path) as url:
        reader = threading.Thread(target=get, args=[url])
        reader.start()
        while rendering.process is None:
            threading.Event().wait(0.01)
    assert rendering.process.wait(5) == -9
    reader.join(5)
    assert not reader.is_alive()


def test_a_report_that_cannot_be_made_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\necho 'Error: The run <one> is damaged.' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(watch.sys, "executable", str(failing))
    add_run(tmp_path, "one")
    with watch_runs(tmp_path) as url:
        _, text, headers = get(url)
        assert "cannot be made at present: Error: The run &lt;one&gt; is damaged." in text
        assert "Refresh" in headers
        failing.write_text('#!/bin/sh\necho "made of $4" > "$6"\n')
        assert get(url)[1].startswith("made of ")
        reader = threading.Timer(0.1, get, [url])
        reader.start()
    reader.join()


def test_only_this_machine_and_only_the_page_is_answered(tmp_path: Path) -> None:
    with watch_runs(tmp_path, render=render) as url:
        assert urlsplit(url).hostname == "127.0.0.1"
        assert get(url, host="evil.example")[0] == 404
        assert get(url, path="/../../etc/passwd")[0] == 404
        assert get(url, method="POST")[0] == 501
        assert get(url, host=f"localhost:{urlsplit(url).port}")[2]["Content-Security-Policy"] == watch.POLICY
        watch_end = threading.Timer(0.05, lambda: get(url))
        watch_end.start()
    watch_end.join()


def test_the_policy_is_the_reports() -> None:
    page = Path(watch.__file__).parents[1] / "reporting" / "report" / "page.html"
    assert f'content="{watch.POLICY}{{{{' in page.read_text("utf-8")


def test_where_nobody_looks_nobody_is_waited_for(tmp_path: Path) -> None:
    with watch_runs(tmp_path, render=render):
        pass
