"""What a worker of a cluster does, called in this process."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from embedkit.errors import EncoderError, ExtractionError
from embedkit.extraction.encoding import EncodingConfig
from embedkit.extraction.engines import worker as module
from embedkit.extraction.engines.described import DescribedEncoder
from embedkit.extraction.engines.worker import Worker, WorkerTask
from embedkit.extraction.plan import PlanSettings, Shard, plan_shards
from embedkit.extraction.run import run_extraction
from embedkit.extraction.segments import Failures, survey
from embedkit.extraction.shards import ShardReader
from embedkit.extraction.standing import examine
from tests.extraction.fakes import FakeEncoder, load_fake, request_for, write_corpus

SETTINGS = PlanSettings(batch_seconds=4.0, shard_seconds=100.0, threads=1, passes=1, device="cpu", sampling_rate=1000)


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.0)


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    """All of a small corpus; the folder of the extraction holds its plan."""
    corpus = write_corpus(tmp_path / "audio")
    failures = Failures("fail")
    stamps = examine(request_for(corpus, tmp_path / "s.h5")).stamps
    items = survey(corpus, corpus.utterances, stamps, sampling_rate=1000, workers=1, failures=failures)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "plan.json").write_text("{}")
    return plan_shards(items, SETTINGS)[0]


def orders_for(folder: Path, **changes: Any) -> WorkerTask:
    recipe = EncodingConfig(
        encoder=FakeEncoder(), root=folder / "audio", frame_dtype="float32", windows=None, batch_seconds=4.0
    )
    values = {name: value for name, value in vars(recipe).items() if name != "encoder"}
    orders = WorkerTask(recipe=values, settings=SETTINGS, workers=1, on_error="fail", identity=FakeEncoder().identity())
    return replace(orders, **changes)


def new_worker(load: Any = load_fake) -> Worker:
    return Worker(load, "cpu", "fp32", 1)


def test_a_shard_is_written_and_nothing_else_comes_back(tmp_path: Path, shard: Shard) -> None:
    path = tmp_path / "work" / "one.shard"
    assert new_worker().run(orders_for(tmp_path), str(path), shard) == ([], None)
    assert len(ShardReader(path).entries) == 12


def test_the_encoder_is_loaded_once(tmp_path: Path, shard: Shard) -> None:
    loaded = []

    def load(**options: str) -> FakeEncoder:
        loaded.append(options)
        return FakeEncoder()

    worker = new_worker(load)
    worker.describe()
    for name in ("a", "b"):
        worker.run(orders_for(tmp_path), str(tmp_path / "work" / f"{name}.shard"), shard).unwrap()
    assert loaded == [{"device": "cpu", "precision": "fp32"}]


def test_a_description_stands_for_the_encoder(tmp_path: Path) -> None:
    described, encoder = DescribedEncoder(new_worker().describe().unwrap()), FakeEncoder()
    assert described.identity() == encoder.identity()
    assert (described.layers, described.dimensions) == (encoder.layers, encoder.dimensions)
    assert all(described.frame_count(samples) >= encoder.frame_count(samples) for samples in range(1, 3000, 7))
    with pytest.raises(ExtractionError, match="other processes"):
        described.encode([], print)


@pytest.mark.parametrize("missing", ["work", "audio"])
def test_folders_that_are_not_shared_are_told(tmp_path: Path, shard: Shard, missing: str) -> None:
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    reply = new_worker().run(orders_for(tmp_path), str(tmp_path / "work" / "one.shard"), shard)
    with pytest.raises(ExtractionError, match=r"The worker on .* does not see .*machines of the cluster"):
        reply.unwrap()


def test_other_weights_and_other_versions_are_refused(tmp_path: Path, shard: Shard) -> None:
    path = str(tmp_path / "work" / "one.shard")
    reply = new_worker(partial(load_fake, gain=2.0)).run(orders_for(tmp_path), path, shard)
    with pytest.raises(ExtractionError, match=r"other weights or options \(weights_digest: gain 2.0, expected gain 1"):
        reply.unwrap()
    other = {**FakeEncoder().identity(), "versions": {"fake": "2"}}
    reply = new_worker().run(orders_for(tmp_path, identity=other), path, shard)
    with pytest.raises(ExtractionError, match=r"other versions of libraries \(fake: 1, expected 2\)"):
        reply.unwrap()
    assert not Path(path).exists()


def test_problems_travel_as_words(tmp_path: Path, shard: Shard) -> None:
    def no_encoder(**options: str) -> FakeEncoder:
        raise EncoderError("There is no such encoder.")

    with pytest.raises(EncoderError, match=r"There is no such encoder\."):
        new_worker(no_encoder).describe().unwrap()

    def full_disk(**options: str) -> FakeEncoder:
        raise OSError(28, "No space left on device", "/somewhere")

    with pytest.raises(OSError, match="No space left") as caught:
        new_worker(full_disk).describe().unwrap()
    assert (caught.value.errno, caught.value.filename) == (28, "/somewhere")


def test_an_utterance_that_cannot_be_used_stops_or_is_noted(tmp_path: Path, shard: Shard) -> None:
    (tmp_path / "audio" / "u003.wav").write_bytes(b"RIFF")
    path = tmp_path / "work" / "one.shard"
    reply = new_worker().run(orders_for(tmp_path), str(path), shard)
    with pytest.raises(ExtractionError, match=r"'u003' cannot be used: .*--on-error skip"):
        reply.unwrap()
    assert not path.exists()
    new_worker().run(orders_for(tmp_path, on_error="skip"), str(path), shard).unwrap()
    assert [item.id for item, _ in ShardReader(path).failures] == ["u003"]


def test_orders_hold_all_but_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[WorkerTask] = []

    class Recording(module_engine()):  # type: ignore[misc]
        def run(self, work: Any) -> None:
            seen.append(WorkerTask.of(work))
            super().run(work)

    run_extraction(request_for(write_corpus(tmp_path / "audio"), tmp_path / "s.h5", engine=Recording(), workers=3))
    assert (seen[0].settings.threads, seen[0].workers, seen[0].on_error) == (1, 3, "fail")
    assert seen[0].identity == FakeEncoder().identity()
    assert "encoder" not in seen[0].recipe
    EncodingConfig(encoder=FakeEncoder(), **seen[0].recipe)


def module_engine() -> Any:
    from embedkit.extraction.engines.local import LocalEngine

    return LocalEngine


def test_the_error_of_a_precision_is_measured_where_the_encoder_is(tmp_path: Path, shard: Shard) -> None:
    def load(*, device: str, precision: str) -> FakeEncoder:
        return FakeEncoder(gain=1.0 if precision == "fp32" else 1.01)

    worker = Worker(load, "cpu", "bf16", 1)
    assert worker.measure(orders_for(tmp_path), shard).unwrap() == pytest.approx(0.01, rel=1e-4)
    silent = tuple(tuple(item._replace(path="missing.wav") for item in batch) for batch in shard)
    assert worker.measure(orders_for(tmp_path), silent).unwrap() is None
