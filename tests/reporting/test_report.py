"""The report: one page that needs nothing else, holds what the runs say, and survives hostile names."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from collections import Counter, defaultdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import embedkit
from embedkit.cli import app
from embedkit.errors import RunError
from embedkit.reporting.metrics import METRICS
from embedkit.training.runs import RunRecord
from tests.documents import write_tiny_emodb
from tests.encoders.checkpoints import write_conv_checkpoint
from tests.reporting.studies import LABELS, QUICK, fit_study, write_checked_svg, write_store
from tests.training.stores import write_synthetic_store
from tests.workflows.tones import write_tones


class Page(HTMLParser):
    """The elements of a page, its texts, and its tables by caption."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._table: list[list[str]] = []
        self._into: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs
        if tag == "table":
            self._table = []
        elif tag == "tr":
            self._table.append([])
        elif tag in ("th", "td"):
            self._table[-1].append("")
            assert tag == "td" or dict(attrs).get("scope") in ("col", "row")
        elif tag == "script":
            self.scripts.append("")
        self._into = tag if tag in ("th", "td", "caption", "script") else self._into

    def handle_endtag(self, tag: str) -> None:
        self._into = None if tag == self._into else self._into

    def handle_data(self, data: str) -> None:
        if self._into in ("th", "td"):
            self._table[-1][-1] += data
        elif self._into == "caption":
            self.tables[data] = self._table
        elif self._into == "script":
            self.scripts[-1] += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def maps(self) -> list[dict[str, Any]]:
        """The rows of maps by column, with their specifications."""
        found = json.loads(self.scripts[0])
        return [{**one["data"], "specs": one["specs"]} for one in found if len(one["specs"]) > 1]

    def rows(self, caption: str) -> list[dict[str, str]]:
        header, *rows = self.tables[caption]
        return [dict(zip(header, row, strict=True)) for row in rows]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[RunRecord]:
    return fit_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def text(records: list[RunRecord]) -> str:
    folder = records[0].folder.parents[3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embedkit.reporting.report.board.write_svg", write_checked_svg)
        return embedkit.write_report(folder, folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_the_page_needs_nothing_else(text: str, page: Page) -> None:
    addresses = [value for name, value in page.attributes if name in ("src", "href", "data", "action", "xlink:href")]
    assert addresses
    assert all(value and value.startswith("#") for value in addresses)
    # Vega's code names addresses that it does not go to; the policy is that of every script.
    own = text.replace(page.scripts[1], "")
    assert set(re.findall(r"https?://[^\s\"'<]+", own)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"@import|url\(", own)
    assert "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\"" in text
    assert len(text) < 1_400_000
    assert {"iframe", "link", "object", "embed", "img", "base"} & set(page.tags) == set()


def test_links_lead_somewhere_and_nothing_is_named_twice(page: Page) -> None:
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for name, value in page.attributes if name == "href" and value} <= set(ids)


def test_names_stay_text(page: Page) -> None:
    assert page.tags["script"] == 3
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert all(label in page.text for label in LABELS)
    assert all(re.fullmatch(r"</script><u\d{4}>", name) for name in page.maps[0]["id"])


def test_figures_have_names_and_numbers(page: Page) -> None:
    names = [value for name, value in page.attributes if name == "aria-label"]
    assert page.tags["figure"] == 1 + 2 + 1 + 1 + 2 + 4 + 1 + 1 + 1
    assert page.tags["figcaption"] == page.tags["figure"]
    parts = sum(name == "class" and value == "part" for name, value in page.attributes)
    assert page.tags["details"] == page.tags["figure"] + parts
    assert names
    assert all(names)


def test_scores_stand_with_their_intervals(records: list[RunRecord], page: Page) -> None:
    recalls = page.rows("Recall in % of every class with 95 % intervals over speakers")
    assert all(re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\]", row["anger (4 speakers)"]) for row in recalls)
    rows = page.rows("Scores with 95 % intervals over speakers")
    assert [row["loss"] for row in rows] == ["ce", "ccc"]
    for row, record in zip(rows, records, strict=False):
        for name in ("ua", "wa", "f1"):
            low, high = record.metrics[f"{name}_ci"]
            assert row[METRICS[name].label] == f"{100 * record.metrics[name]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    assert any("UAR in %" in caption for caption in page.tables)


def test_the_hardest_utterances_are_those_recognised_least(records: list[RunRecord], page: Page) -> None:
    right: dict[str, list[bool]] = defaultdict(list)
    chance: dict[str, list[float]] = defaultdict(list)
    taken: dict[str, Counter[str]] = defaultdict(Counter)
    labels = {}
    for record in records[:2]:
        with open(record.predictions_path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                labels[row["id"]] = row["label"]
                right[row["id"]].append(row["label"] == row["predicted"])
                chance[row["id"]].append(float(row[f"p_{row['label']}"]))
                if not right[row["id"]][-1]:
                    taken[row["id"]][row["predicted"]] += 1
    shown = page.rows("Hardest utterances")
    expected = sorted(sum(values) for values in right.values())[: len(shown)]
    assert [sum(right[row["utterance"]]) for row in shown] == expected
    for row in shown:
        name = row["utterance"]
        assert row["true label"] == labels[name]
        assert row["right with tiny"] == f"{sum(right[name])} of {len(right[name])}"
        other, _, times = row["mostly predicted"].rpartition(" (")
        assert times == f"{max(taken[name].values())} of {len(right[name])})"
        assert taken[name][other] == max(taken[name].values())
        assert float(row["probability of the true label"]) == pytest.approx(
            sum(chance[name]) / len(chance[name]), abs=0.0051
        )


def test_maps_tell_what_every_point_is(records: list[RunRecord], page: Page) -> None:
    (found,) = page.maps
    store = embedkit.open_store(records[0].config["store"]["path"])
    rows = {name: row for row, name in enumerate(store.ids.tolist())}
    for by, values in (("label", store.labels), ("speaker", store.speakers), ("session", store.sessions)):
        assert found[by] == [values[rows[name]] for name in found["id"]]
    assert {len(found[place]) for place in ("x0", "y0", "x1", "y1", "predicted")} == {60}
    assert all(re.fullmatch(r"\d of 4", words) for words in found["right"])
    assert len(found["specs"]) == 2 * 4


def test_a_store_that_is_gone_or_another_is_told(tmp_path: Path) -> None:
    fit_study(tmp_path)
    (tmp_path / "tiny.h5").rename(tmp_path / "other.h5")
    page = Page(embedkit.write_report(tmp_path / "runs", tmp_path / "report.html").read_text())
    assert "There is no map of tiny." in page.text
    assert page.maps == []
    assert page.rows("Hardest utterances")
    write_store(tmp_path, seed=7)
    page = Page(embedkit.write_report(tmp_path / "runs", tmp_path / "report.html").read_text())
    assert "extracted again" in page.text


def test_runs_of_dimensions_have_what_they_can(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    records = embedkit.fit(store, targets=["valence"], runs=tmp_path / "runs", **QUICK)
    page = Page(embedkit.write_report(records, tmp_path / "report.html").read_text())
    assert not any(words in page.text for words in ("Confusion matrices", "Calibration", "Hardest utterances"))
    assert "linear under ccc-regression has a CCC of" in page.text
    (row,) = page.rows("Scores with 95 % intervals over speakers")
    assert row["CCC"].startswith(f"{records[0].metrics['ccc']:.3f} [")
    assert page.tags["figure"] == 1 + 2 + 1 + 1
    assert "--targets valence" in page.text
    names = [value for name, value in page.attributes if name == "name"]
    assert {"speaker", "class"} < set(names)
    assert "counts" not in names


def test_protocols_stand_apart(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    for folds in ("speaker", "session", "random"):
        embedkit.fit(store, loss=["ce"], runs=tmp_path / "runs", **QUICK | {"folds": folds})
    page = Page(embedkit.write_report(tmp_path / "runs", tmp_path / "report.html").read_text())
    for folds in ("speaker", "session", "random"):
        assert f"synthetic, folds by {folds}, 2 seeds" in page.text
    assert "SPEAKER-DEPENDENT" in page.text
    assert len(page.maps) == 1


def test_titles_name_in_what_protocols_differ(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    for more in ({}, {"epochs": 3}, {"classes": LABELS[:2]}):
        embedkit.fit(store, loss=["ce"], runs=tmp_path / "runs", **QUICK | more)
    page = Page(embedkit.write_report(tmp_path / "runs", tmp_path / "report.html").read_text())
    for told in ("3 classes, up to 6 epochs", "3 classes, up to 3 epochs", "2 classes, up to 6 epochs"):
        assert f"synthetic, folds by speaker, 2 seeds, {told}" in page.text
    drawn = embedkit.write_figures(tmp_path / "runs", "forest", out=tmp_path / "figures")
    titles = {re.search(r">(synthetic, [^<]*: UAR with intervals)<", one.read_text(encoding="utf-8")) for one in drawn}
    assert len(titles) == len(drawn) == 3


@pytest.mark.heavy
def test_thirty_runs_would_stay_below_eight_megabytes(tmp_path: Path) -> None:
    once = QUICK | {"seeds": 1, "epochs": 1, "lr": (1e-2,)}
    for number in range(2):
        store = write_synthetic_store(
            tmp_path / f"{number}.h5", speakers=10, each=53, encoder=f"tiny-{number}", seed=number
        )
        embedkit.fit(store, loss="all", runs=tmp_path / "runs", **once)
    report = embedkit.write_report(tmp_path / "runs", tmp_path / "report.html")
    page = Page(report.read_text(encoding="utf-8"))
    assert "10 runs" in page.text
    assert len(page.maps) == 2
    assert 3 * report.stat().st_size < 8_000_000


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), prog_name="embedkit")


def test_the_commands_lead_to_the_same_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny_emodb(tmp_path / "my corpus")
    options = ("--seeds", "1", "--epochs", "3", "--lr", "1e-2,3e-2", "--weight-decay", "1e-3", "--clip", "5")
    more = ("--normalise", "speaker", "--patience", "2")
    assert run("extract", "my corpus", "--encoder", "logmel", "--out", "a b.h5").exit_code == 0
    assert (
        run("fit", "a b.h5", "--head", "mlp:hidden=8", "--loss", "ce,focal:gamma=1.5", *more, *options).exit_code == 0
    )
    assert run("fit", "a b.h5", "--head", "linear", "--layers", "each", *options).exit_code == 0
    before = sorted(path.name for path in Path("runs").rglob("*-*"))
    assert run("report").stdout == "report.html\n"
    commands = read_commands(Path("report.html"))
    assert [words[1] for words in commands] == ["extract", "fit", "fit", "table", "report"]
    for words in commands:
        result = run(*words[1:])
        assert result.exit_code == 0, result.output
        assert words[1] != "extract" or "up to date" in result.stderr or "nothing" in result.stderr, result.stderr
        assert words[1] != "fit" or result.stderr.count("fitted before") == (
            2 if any(word.startswith("mlp:hidden=8") for word in words) else 1
        )
    assert sorted(path.name for path in Path("runs").rglob("*-*")) == before


def read_commands(page: Path) -> list[list[str]]:
    lines = Page(page.read_text()).text.partition("These lead to the numbers above.")[2]
    return [shlex.split(line) for line in re.split(r"(?=embedkit [a-z]+ )", lines.strip()) if line]


@pytest.mark.heavy
def test_runs_that_run_the_encoder_have_commands_and_no_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tones(tmp_path / "tones")
    (tmp_path / "tones" / "other.csv").write_text("path,label\n00.wav,high\n")
    write_conv_checkpoint(tmp_path / "tiny", "hubert", layerdrop=0.0)
    options = ("--head", "linear", "--seeds", "1", "--epochs", "1", "--lr", "1e-2", "--batch-size", "24")
    trained = ("--tune-layers", "2-3", "--augment", "noise:folder=tones,high=20,speed", "--save-encoder", "--recompute")
    corpus = "tones/corpus.csv"
    lora = ("--lora-rank", "2", "--lora-alpha", "3", "--lora-targets", "q_proj", "--encoder-lr", "2e-4")
    assert run("fit", corpus, "--mode", "finetune", "--encoder", "./tiny", *trained, *options).exit_code == 0
    assert run("fit", corpus, "--mode", "lora", "--encoder", "./tiny", *lora, *options).exit_code == 0
    assert run("fit", corpus, "--mode", "frozen", "--encoder", "tiny+mfcc", "--layers", "last", *options).exit_code == 0
    assert run("report").exit_code == 0
    found = re.search("There is no map of (.*?): only", Page(Path("report.html").read_text()).text)
    assert found is not None
    assert set(found[1].split(", ")) == {"tiny (finetune)", "tiny (lora)", "tiny+mfcc (frozen)"}
    assert "No run below runs can be drawn as map: none is on a store" in run("figure", "map").stderr
    (trained_run,) = Path("runs/corpus/tiny/linear").glob("*/encoders")
    assert run("extract", corpus, "--encoder", str(trained_run.parent)).exit_code == 0
    assert run("fit", *options).exit_code == 0
    (one_fold,) = Path("embeddings/corpus").glob("*-fold-0-*")
    assert run("fit", str(one_fold), "--allow-leak", *options).exit_code == 0
    before = sorted(path.name for path in Path("runs").rglob("*-*"))
    assert run("report").exit_code == 0
    commands = read_commands(Path("report.html"))
    assert [words[1] for words in commands[:3]] == ["fit", "fit", "fit"]
    # From any other folder, as long as the corpus and the encoder lie where they were.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shutil.copytree("../runs", "runs")
    for words in commands:
        result = run(*words[1:])
        assert result.exit_code == 0, result.output
        assert words[1] != "extract" or "nothing to do" in result.stderr, result.stderr
        assert words[1] != "fit" or "fitted before" in result.stderr, (words, result.stderr)
    assert sorted(path.name for path in Path("runs").rglob("*-*")) == before


def test_what_cannot_be_reported_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("report")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "No runs below runs" in result.stderr
    with pytest.raises(RunError, match="no runs to report"):
        embedkit.write_report([])
    records = fit_study(tmp_path, seeds=1, epochs=2, lr=(1e-2,))
    Path("file").write_text("")
    whole = records[0].predictions_path.read_text()
    records[0].predictions_path.write_text("".join(whole.splitlines(keepends=True)[:-3]))
    with pytest.raises(RunError, match="choose another --out"):
        embedkit.write_report(records, "file/report.html")
    with pytest.raises(
        RunError, match=r"predictions of .* \(ValueError\('57 utterances, expected 60'\)\); .*--overwrite"
    ):
        embedkit.write_report(records, "report.html")
    records[0].predictions_path.write_text("id,seed\n")
    with pytest.raises(RunError, match=r"predictions of .* cannot be read.*--overwrite"):
        embedkit.write_report(records, "report.html")
    assert not Path("report.html").exists()


def test_corpora_with_the_same_names_keep_apart_and_pooled_ones_have_a_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedkit.reporting.report.board.write_svg", lambda _: "")
    monkeypatch.setattr("embedkit.reporting.report.page.draw_sections", lambda *_: [])
    kept = {"labels": ("anger", "sad"), "speakers": 3, "each": 8}
    stores = [
        write_synthetic_store(tmp_path / f"{name}.h5", corpus=name, seed=seed, noise=9, **kept)
        for seed, name in enumerate("ab")
    ]
    options: dict[str, Any] = {**QUICK, "epochs": 1, "lr": (1e-2,), "loss": ["ce"], "runs": tmp_path / "runs"}
    (pooled,) = embedkit.fit(stores, pool=True, **options)
    own = [record for store in stores for record in embedkit.fit(store, **options)]
    page = Page(embedkit.write_report(tmp_path / "runs", tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "There is no map" not in page.text
    told = [{name: one[name] for name in ("id", "right", "speaker")} for one in page.maps]
    assert [len(one["id"]) for one in told] == [24, 48, 24]
    assert [set(one["speaker"]) for one in told] == [
        {f"{name}/s{number:02d}" for name in names for number in range(3)} for names in ("a", "ab", "b")
    ]
    assert page.maps[1]["corpus"] == ["a"] * 24 + ["b"] * 24
    for one, record in zip(told, (own[0], pooled, own[1]), strict=True):
        counts: dict[str, int] = {}
        with record.predictions_path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                counts[row["id"]] = counts.get(row["id"], 0) + (row["label"] == row["predicted"])
        assert dict(zip(one["id"], one["right"], strict=True)) == {
            name: f"{right} of 2" for name, right in counts.items()
        }
    assert "Predicted: by linear under ce. Recognised: by all heads on" in page.text
