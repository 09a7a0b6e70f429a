"""Which runs share a figure: those of one protocol, encoder and head; their losses are its series."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from embedkit.encoders import ENCODERS
from embedkit.heads import HEADS
from embedkit.losses import LOSSES
from embedkit.reporting.labels import Row, place_rows
from embedkit.reporting.protocol import describe_marks, split_by_protocol, tell_protocols_apart
from embedkit.reporting.published import last_part

if TYPE_CHECKING:
    from embedkit.training.runs import RunRecord


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Runs of one encoder and head, by their losses; a number where other protocols have the same.

    Attributes:
        protocol: Equal for panels whose runs may be compared.
        marks: What titles say of the protocol: what makes numbers easy, and in what it differs from others.
    """

    protocol: int
    corpus: str
    encoder: str
    head: str
    runs: dict[str, RunRecord]
    marks: str = ""
    number: int = 1

    @property
    def name(self) -> str:
        """What a title calls them."""
        return f"{self.corpus}: {last_part(self.encoder)}, {self.head}{self.marks}"

    @property
    def classes(self) -> int:
        """How many classes are predicted; 0 where attributes are."""
        return len(next(iter(self.runs.values())).config.get("classes") or ())

    @property
    def chance(self) -> tuple[float, float, str] | None:
        """The line of guessing on an axis of UAR in %."""
        return (100 / self.classes, 100 / self.classes, "chance") if self.classes else None

    @property
    def file_name(self) -> str:
        """What a file's name calls them."""
        again = f"-{self.number}" if self.number > 1 else ""
        return f"{self.corpus}-{last_part(self.encoder)}-{self.head}{again}"


def split_runs(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Group runs by protocol, in the order of the table: real corpora first, then by the catalogues."""
    ordered = sorted(records, key=_run_order)
    by_row = {id(record.metrics): record for record in ordered}
    groups = split_by_protocol([record.metrics for record in ordered])
    return [[by_row[id(row)] for row in group] for group in groups]


def plan_panels(records: Sequence[RunRecord]) -> list[Panel]:
    """Arrange the runs of all layers on clean recordings; single layers have figures of their own."""
    panels: list[Panel] = []
    clean = [record for record in records if record.metrics.get("noise_snr") is None]
    groups = split_runs([record for record in clean if record.metrics.get("layer") is None])
    apart = tell_protocols_apart([[record.metrics for record in group] for group in groups], ("test_corpus",))
    for protocol, (group, difference) in enumerate(zip(groups, apart, strict=True)):
        places = place_rows([record.metrics for record in group])
        for encoder, head in dict.fromkeys((place.encoder, place.head) for place in places):
            own = [
                (place.loss, record)
                for place, record in zip(places, group, strict=True)
                if (place.encoder, place.head) == (encoder, head)
            ]
            runs = dict(sorted(own, key=lambda pair: loss_order(pair[1].metrics)))
            row = group[0].metrics
            corpus = str(row.get("test_corpus") or row["corpus"])
            trained = f", trained on {row['corpus']}" if row.get("test_corpus") else ""
            marks = f"{trained}{difference}{describe_marks(row)}"
            panel = Panel(protocol=protocol, corpus=corpus, encoder=encoder, head=head, runs=runs, marks=marks)
            number = 1 + sum((one.corpus, one.encoder, one.head) == (corpus, encoder, head) for one in panels)
            panels.append(replace(panel, number=number))
    return panels


def loss_order(row: Row) -> int:
    """Return the place of a run's loss in the catalogue, to sort by."""
    return _place(LOSSES, row["loss"])


def _run_order(record: RunRecord) -> tuple[Any, ...]:
    row = record.metrics
    tested = str(row.get("test_corpus") or "")
    return bool(row.get("demo")), row["corpus"], tested, _place(ENCODERS, row["encoder"]), _place(HEADS, row["head"])


def _place(catalogue: Iterable[str], name: str) -> int:
    names = list(catalogue)
    return names.index(name) if name in names else len(names)


def is_cached(record: RunRecord) -> bool:
    """Say whether a run was fitted on a store; others ran the encoder on a corpus and keep no embeddings."""
    return str(record.config.get("mode", "cached")) == "cached"


def is_on_one_store(record: RunRecord) -> bool:
    """Say whether all folds are tested on the same embeddings; trained encoders have a store for each."""
    return is_cached(record) and "encoders" not in (record.config.get("test_store") or record.config["store"])


def tested_stores(panels: Sequence[Panel]) -> list[tuple[Panel, RunRecord]]:
    """Return one run, and where it stands, for every store that serves all folds, or all stores of pooled corpora."""
    found: dict[str, tuple[Panel, RunRecord]] = {}
    for panel in panels:
        for record in filter(is_on_one_store, panel.runs.values()):
            store = record.config.get("test_store") or record.config["store"]
            found.setdefault(str(store["digest"]), (panel, record))
    return list(found.values())
