"""The report in a browser: what is drawn, pointed at, switched and reached by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import embedkit
from tests.reporting.browser import Browser, find_browser
from tests.reporting.studies import LABELS, fit_study

PROGRAM = find_browser()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium or Chrome on this machine")

MAP = "document.querySelector('.map')"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    fit_study(folder)
    return embedkit.write_report(folder / "runs", folder / "report.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM, tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def page(browser: Browser, report: Path) -> Browser:
    browser.errors.clear()
    browser.requests.clear()
    browser.open(report)
    return browser


def settle(page: Browser, element: str) -> None:
    """Scroll to an element and wait until nothing moves."""
    page.run(f"{element}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    page.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")


def tip(page: Browser) -> str | None:
    found: str | None = page.run("(t => t.hidden ? null : t.innerText)(document.getElementById('tip'))")
    return found


def place(page: Browser, number: int, method: str = "t-SNE") -> tuple[float, float]:
    x, y = page.run(
        f"(() => {{ const box = {MAP}.querySelector('svg').getBoundingClientRect();"
        "const data = JSON.parse(document.getElementById('data').textContent);"
        f"const xy = data.maps[0].points['{method}'].slice({2 * number}, {2 * number + 2});"
        "return [box.left + xy[0] / 10 * box.width / 400, box.top + xy[1] / 10 * box.width / 400]; })()"
    )
    return x, y


def test_nothing_is_fetched_and_nothing_complains(page: Browser, report: Path) -> None:
    for width in (380, 1200):
        page.open(report, width=width)
    assert page.errors == []
    assert set(page.requests) == {report.as_uri()}


def test_every_figure_is_drawn(page: Browser) -> None:
    sizes = page.run(
        "[...document.querySelectorAll('figure svg[role=img]')].map(svg => { const box = svg.getBoundingClientRect(), "
        "drawn = svg.getBBox(), view = svg.viewBox.baseVal; return [box.width, box.height, drawn.width / view.width, "
        "drawn.height / view.height, svg.querySelectorAll('.heat, circle, path').length]; })"
    )
    assert len(sizes) == page.run("document.querySelectorAll('figure').length") == 9
    for width, height, across, down, shapes in sizes:
        assert min(width, height) > 100
        assert 0.8 < across < 1.03
        assert 0.8 < down < 1.03
        assert shapes >= 2


def test_pointing_tells_what_a_point_is(page: Browser) -> None:
    settle(page, MAP)
    page.point(*place(page, 5))
    told = tip(page)
    assert told is not None
    name, label, speaker, session, right = told.split("\n")
    assert name.startswith("</script><u")
    assert label.removeprefix("label: ") in LABELS
    assert speaker.startswith("speaker: s0")
    assert session.startswith("session: session")
    assert right.startswith("recognised ")
    page.press("Escape")
    assert tip(page) is None
    settle(page, "document.querySelector('.heat')")
    x, y = page.run("(b => [b.left + 5, b.top + 5])(document.querySelector('.heat').getBoundingClientRect())")
    page.point(x, y)
    assert "predicted as" in (tip(page) or "")


def paths(page: Browser) -> list[Any]:
    found: list[Any] = page.run(f"[...{MAP}.querySelectorAll('path')].map(path => path.getAttribute('d'))")
    return found


def choose(page: Browser, value: str) -> None:
    element = f"document.querySelector('input[value=\"{value}\"]')"
    settle(page, element)
    x, y = page.run(f"(b => [b.left + b.width / 2, b.top + b.height / 2])({element}.getBoundingClientRect())")
    page.point(x, y, click=True)


def test_colour_and_method_switch(page: Browser) -> None:
    by_label = paths(page)
    assert len(by_label) == 3
    choose(page, "speaker")
    assert len(paths(page)) == 4
    legend = page.run("[...document.querySelectorAll('.maps .legend button')].map(button => button.innerText.trim())")
    assert legend == ["s00", "s01", "s02", "s03"]
    choose(page, "session")
    assert len(paths(page)) == 2
    choose(page, "PCA")
    choose(page, "label")
    assert len(paths(page)) == 3
    assert paths(page) != by_label
    assert "PCA, by label" in page.run(f"{MAP}.querySelector('svg').getAttribute('aria-label')")
    settle(page, MAP)
    page.point(*place(page, 5, "PCA"))
    assert tip(page)
    choose(page, "t-SNE")
    assert paths(page) == by_label


def test_a_name_shows_its_points_alone(page: Browser) -> None:
    button = "document.querySelector('.maps .legend button')"
    settle(page, button)
    x, y = page.run(f"(b => [b.left + b.width / 2, b.top + b.height / 2])({button}.getBoundingClientRect())")
    faded = f"[...{MAP}.querySelectorAll('path')].map(path => path.classList.contains('faded'))"
    page.point(x, y, click=True)
    assert page.run(faded) == [False, True, True]
    assert page.run(f"{button}.getAttribute('aria-pressed')") == "true"
    page.point(x, y, click=True)
    assert page.run(faded) == [False, False, False]


def test_all_is_reached_by_keyboard(page: Browser) -> None:
    seen = []
    for _ in range(80):
        page.press("Tab")
        name = page.run(
            "(e => e === document.body ? '' : e.className || e.id || e.name || e.tagName)(document.activeElement)"
        )
        seen.append(name)
        if name == "map":
            break
    assert seen[0] == "skip"
    assert seen.index("method") < seen.index("by") < seen.index("map")
    assert "SUMMARY" in seen
    told = set()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "ArrowDown"):
        page.press(key)
        found = tip(page)
        assert found is not None
        told.add(found)
    assert len(told) > 2
    page.press("Tab")
    assert tip(page) is None
    page.press(" ")
    assert page.run("document.activeElement.getAttribute('aria-pressed')") == "true"


def test_a_phone_shows_all_within_its_width(page: Browser, report: Path) -> None:
    page.open(report, width=380)
    assert page.run("document.documentElement.scrollWidth") <= 380
    widths = page.run("[...document.querySelectorAll('figure')].map(figure => figure.getBoundingClientRect().right)")
    assert max(widths) <= 380
    assert (
        page.run(
            "Math.min(...[...document.querySelectorAll('figure text')].map(t => t.getBoundingClientRect().height))"
        )
        > 7
    )


def test_dark_readers_get_a_dark_page(page: Browser, report: Path) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('figure text')).fill"
    light = (page.run(paper), page.run(ink))
    page.open(report, dark=True)
    dark = (page.run(paper), page.run(ink))
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] == "rgb(20, 23, 28)"
    assert light[1] != dark[1]


def test_print_shows_light_colours_and_no_controls(page: Browser, report: Path) -> None:
    page.open(report, dark=True)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.call("Emulation.setEmulatedMedia", media="print", features=features)
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for hidden in ("nav", "#controls", "details"):
        assert page.run(f"getComputedStyle(document.querySelector('{hidden}')).display") == "none"
    page.call("Emulation.setEmulatedMedia", media="")


def test_without_scripts_the_maps_are_there(page: Browser, report: Path) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(report)
        assert len(paths(page)) == 3
        assert page.run("getComputedStyle(document.getElementById('controls')).display") == "none"
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
