"""The report in a browser: what is drawn, pointed at, switched and reached by keyboard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import embedkit
from tests.reporting.browser import Browser, find_browser
from tests.reporting.studies import LABELS, fit_study

PROGRAM = find_browser()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium or Chrome on this machine")

MAP = "document.querySelector('.maps .picture')"
DRAWN = "document.documentElement.classList.contains('drawn')"


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
    show(browser, report)
    return browser


def show(page: Browser, report: Path, **how: Any) -> None:
    """Open the page and all its parts, and wait until the script has drawn all figures."""
    page.open(report, **how)
    wait(page, DRAWN)
    unfold(page)


def unfold(page: Browser) -> None:
    page.run("for (const part of document.querySelectorAll('details.part')) part.open = true")
    wait(page, "[...document.querySelectorAll('.picture')].every(box => box.classList.contains('drawn'))")


def wait(page: Browser, script: str) -> None:
    end = time.monotonic() + 20
    while not page.run(script):
        assert time.monotonic() < end, (script, page.errors)
        time.sleep(0.02)


def settle(page: Browser, element: str) -> None:
    """Scroll to an element and wait until nothing moves."""
    page.run(f"{element}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    page.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")


def tip(page: Browser) -> str:
    found: str = page.run(
        "(t => t?.classList.contains('visible') ? t.innerText : '')(document.getElementById('vg-tooltip-element'))"
    )
    return found


POINTS = "[...document.querySelectorAll('.maps .mark-symbol.role-mark path')]"


def middle(page: Browser, element: str) -> tuple[float, float]:
    settle(page, element)
    x, y = page.run(f"(b => [b.left + b.width / 2, b.top + b.height / 2])({element}.getBoundingClientRect())")
    return x, y


def test_nothing_is_fetched_and_nothing_complains(page: Browser, report: Path) -> None:
    for width in (380, 1200):
        show(page, report, width=width)
    assert page.errors == []
    assert set(page.requests) == {report.as_uri()}


def test_every_figure_is_drawn(page: Browser) -> None:
    sizes = page.run(
        "[...document.querySelectorAll('.picture svg')].map(svg => { const box = svg.getBoundingClientRect(), "
        "drawn = svg.getBBox(), view = svg.viewBox.baseVal; return [box.width, box.height, drawn.width / view.width, "
        "drawn.height / view.height, svg.querySelectorAll('.role-mark path').length]; })"
    )
    assert len(sizes) == page.run("document.querySelectorAll('figure').length") == 14
    for width, height, across, down, shapes in sizes:
        assert min(width, height) > 60
        assert 0.8 < across < 1.03
        assert 0.8 < down < 1.03
        assert shapes >= 2


def test_pointing_and_clicking_tell_what_a_point_is(page: Browser) -> None:
    where = middle(page, f"{POINTS}[5]")
    page.point(*where)
    wait(page, "document.querySelector('#vg-tooltip-element.visible') !== null")
    told = tip(page)
    for words in ("utterance", "</script><u", "true label", "predicted by most seeds", "speaker", "recognised"):
        assert words in told
    page.point(*where, click=True)
    kept = page.run("document.querySelector('output').innerText").split("\n")
    label = kept[1].removeprefix("true label: ")
    assert kept[0].startswith("utterance: </script><u")
    assert label in LABELS
    assert kept[2].removeprefix("predicted by most seeds: ") in LABELS
    assert page.run("document.getElementById('choice').elements.class.value") == label
    assert page.run("document.querySelectorAll('img').length") == 0
    assert page.errors == []


def choose(page: Browser, value: str) -> None:
    page.point(*middle(page, f"document.querySelector('input[value=\"{value}\"]')"), click=True)


def looks(page: Browser, what: str = "getAttribute('fill')") -> list[Any]:
    found: list[Any] = page.run(f"{POINTS}.map(path => path.{what})")
    return found


def test_colour_and_method_switch(page: Browser) -> None:
    legend = "[...document.querySelectorAll('.maps .role-legend-label text')].map(text => text.textContent)"
    by_label, places = looks(page), looks(page, "getAttribute('transform')")
    assert len(set(by_label)) == 3
    choose(page, "speaker")
    wait(page, f"{legend}.length === 4")
    assert page.run(legend) == ["s00", "s01", "s02", "s03"]
    assert looks(page, "getAttribute('transform')") == places
    choose(page, "session")
    wait(page, f"{legend}.length === 2")
    choose(page, "PCA")
    choose(page, "predicted")
    wait(page, f"{legend}.length === 3 && {MAP}.innerHTML.includes('% of the variance')")
    assert looks(page, "getAttribute('transform')") != places
    choose(page, "t-SNE")
    choose(page, "label")
    wait(page, f"{MAP}.innerHTML.includes('t-SNE 1')")
    wait(page, f"{POINTS}.map(path => path.getAttribute('fill')).join() === '{','.join(by_label)}'")
    assert looks(page, "getAttribute('transform')") == places


def test_what_is_chosen_stands_out_in_every_figure(page: Browser) -> None:
    shapes = "[...box.querySelectorAll('.mark-symbol.role-mark path, .mark-rect path')]"
    count = f"box => {shapes}.filter(path => path.getAttribute('opacity') === '1').length"
    bright = f"[...document.querySelectorAll('.picture')].map({count})"
    before = page.run(bright)
    select = "document.getElementById('choice').elements"
    page.run(f"{select}.speaker.value = 's01', document.getElementById('choice').dispatchEvent(new Event('change'))")
    wait(page, f"{POINTS}.some(path => path.getAttribute('opacity') !== '1')")
    after = page.run(bright)
    # One of four speakers: in the map, and in the rows of the two losses.
    assert (before[-1], after[-1]) == (60, 15)
    assert [(old, new) for old, new in zip(before, after, strict=True) if old != new] == [(8, 2), (60, 15)]
    page.point(
        *middle(page, "document.querySelectorAll('.picture')[1].querySelectorAll('.mark-rect path')[4]"), click=True
    )
    assert page.run(f"{select}.class.value") in LABELS
    wait(page, f"{bright}[1] === 5")
    chosen = page.run("[...document.querySelectorAll('details.scripted')].map(one => (one.open = true))")
    wait(page, "document.querySelectorAll('details.scripted tbody tr').length > 0")
    rows = page.run(
        "[...document.querySelectorAll('details.scripted tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert chosen == [True]
    assert {row[1] for row in rows} == {page.run(f"{select}.class.value")}
    assert {"s01"} == {row[4] for row in rows}
    assert all(row[0].startswith("</script><u") for row in rows)


def test_all_is_reached_by_keyboard(page: Browser, report: Path) -> None:
    page.open(report)
    wait(page, DRAWN)
    seen = press_tab_until(page, "Commands")
    assert seen[:4] == ["skip", "speaker", "class", "counts"]
    titles = page.run("[...document.querySelectorAll('.part > summary')].map(one => one.innerText)")
    assert [name for name in seen if name in titles] == titles
    assert len([name for name in seen if name.startswith("Numbers of synthetic, folds by speaker")]) == 2
    assert not {"method", "by"} & set(seen)
    page.run("[...document.querySelectorAll('.part > summary')].find(one => one.innerText.startsWith('Maps')).focus()")
    page.press(" ")
    wait(page, f"{MAP}.classList.contains('drawn')")
    assert press_tab_until(page, "Utterances")[:2] == ["method", "by"]
    page.press(" ")
    wait(page, "document.querySelectorAll('details.scripted tbody tr').length === 60")
    page.run("document.getElementById('choice').elements.class.focus()")
    page.press("ArrowDown")
    wait(page, "document.querySelectorAll('details.scripted tbody tr').length < 60")


def press_tab_until(page: Browser, last: str) -> list[str]:
    """Return what is reached, up to what begins with a text."""
    seen: list[str] = []
    while not seen or not seen[-1].startswith(last):
        assert len(seen) < 80, seen
        page.press("Tab")
        seen.append(page.run("(e => e.name || e.className || e.textContent.trim())(document.activeElement)"))
    return seen


def test_parts_are_folded_and_drawn_when_they_are_opened(page: Browser, report: Path) -> None:
    page.open(report)
    wait(page, DRAWN)
    drawn = "[...document.querySelectorAll('.picture')].filter(box => box.classList.contains('drawn')).length"
    assert page.run(drawn) == page.run("document.querySelectorAll('.opening figure').length") == 2
    assert page.run("document.querySelector('.conclusion').getBoundingClientRect().top") < 400
    page.point(*middle(page, "document.querySelectorAll('.part > summary')[1]"), click=True)
    wait(page, f"{drawn} === 3")


def test_matrices_show_counts_on_demand(page: Browser) -> None:
    written = "document.querySelectorAll('.picture')[1].querySelectorAll('.mark-text.role-mark text')"
    texts = f"[...{written}].map(one => one.textContent)"
    *shares, unit = page.run(texts)
    assert unit == "in % of the true class"
    assert [round(sum(map(int, shares[row : row + 3]))) for row in (0, 3, 6)] == pytest.approx([100] * 3, abs=1)
    page.point(*middle(page, "document.getElementById('choice').elements.counts"), click=True)
    wait(page, f"{texts}.at(-1) === 'utterances, mean over seeds'")
    counts = page.run(texts)[:-1]
    assert sum(map(float, counts)) == pytest.approx(60)


HARDEST = "[...document.querySelectorAll('table')].find(one => one.caption?.textContent.startsWith('Hardest'))"


def read_hardest(page: Browser) -> list[list[str]]:
    """Return the texts of the rows that are not filtered out."""
    shown = f"[...{HARDEST}.tBodies[0].rows].filter(row => !row.hidden)"
    found: list[list[str]] = page.run(f"{shown}.map(row => [...row.cells].map(cell => cell.textContent))")
    return found


def test_tables_are_sorted_and_filtered(page: Browser) -> None:
    before = read_hardest(page)
    place = len(before[0]) - 1
    for wanted, sort in (("descending", True), ("ascending", False)):
        page.point(*middle(page, f"{HARDEST}.tHead.rows[0].cells[{place}].firstChild"), click=True)
        assert page.run(f"{HARDEST}.tHead.rows[0].cells[{place}].ariaSort") == wanted
        values = [float(row[place]) for row in read_hardest(page)]
        assert values == sorted(values, reverse=sort)
    page.run(f"{HARDEST}.tBodies[0].rows[3].cells[{place}].textContent = '-'")
    for _ in range(2):
        page.point(*middle(page, f"{HARDEST}.tHead.rows[0].cells[{place}].firstChild"), click=True)
        assert [row[place] for row in read_hardest(page)].index("-") == len(before) - 1
    page.point(*middle(page, f"{HARDEST}.tHead.rows[0].cells[1].firstChild"), click=True)
    speakers = [row[1] for row in read_hardest(page)]
    assert speakers == sorted(speakers)
    page.run(f"{HARDEST}.parentNode.previousElementSibling.focus()")
    page.call("Input.insertText", text="S02")
    kept = read_hardest(page)
    assert {row[1] for row in kept} == {"s02"}
    assert len(kept) == speakers.count("s02")
    page.run("document.getElementById('choice').elements.speaker.value = 's02'")
    page.run("document.getElementById('choice').dispatchEvent(new Event('change'))")
    others = page.run(f"{HARDEST}.querySelectorAll('tr.other').length")
    assert others == len(speakers) - len(kept)


def test_a_phone_shows_all_within_its_width(page: Browser, report: Path) -> None:
    show(page, report, width=380)
    assert page.run("document.documentElement.scrollWidth") <= 380
    widths = page.run("[...document.querySelectorAll('figure')].map(figure => figure.getBoundingClientRect().right)")
    assert max(widths) <= 380
    assert (
        page.run(
            "Math.min(...[...document.querySelectorAll('figure text')].filter(t => t.textContent)"
            ".map(t => t.getBoundingClientRect().height))"
        )
        > 7
    )


def test_dark_readers_get_a_dark_page(page: Browser, report: Path) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('figure text')).fill"
    light = (page.run(paper), page.run(ink))
    points = "getComputedStyle(document.querySelector('.maps .mark-symbol.role-mark path')).fill"
    before = page.run(points)
    show(page, report, dark=True)
    assert page.run(points) != before
    assert page.run("getComputedStyle(document.querySelector('.picture svg')).backgroundColor") == "rgba(0, 0, 0, 0)"
    dark = (page.run(paper), page.run(ink))
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] == "rgb(20, 23, 28)"
    assert light[1] != dark[1]


def test_print_shows_light_colours_and_no_controls(page: Browser, report: Path) -> None:
    show(page, report, dark=True)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.call("Emulation.setEmulatedMedia", media="print", features=features)
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for hidden in ("#choice", "#controls", "details details", ".search"):
        assert page.run(f"getComputedStyle(document.querySelector('{hidden}')).display") == "none"
    # A button is not drawn in heads that are repeated on the next sheet.
    assert page.run("getComputedStyle(document.querySelector('thead button')).display") == "contents"
    page.run("for (const part of document.querySelectorAll('details.part')) part.open = false")
    heights = page.run("[...document.querySelectorAll('.part figure')].map(one => one.getBoundingClientRect().height)")
    assert len(heights) == 12
    assert min(heights) > 60
    page.call("Emulation.setEmulatedMedia", media="")


def test_without_scripts_the_maps_are_there(page: Browser, report: Path) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(report)
        assert len(looks(page)) == 60
        assert page.run("document.querySelectorAll('.picture svg').length") == 14
        for hidden in ("#choice", "#controls", "details.scripted"):
            assert page.run(f"getComputedStyle(document.querySelector('{hidden}')).display") == "none"
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
