"""What a worker of a cluster does, called in this process."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from embedkit.errors import EncoderError, ExtractionError
from embedkit.extraction.encoding import EncodingConfig
from embedkit.extraction.engines import LocalEngine
from embedkit.extraction.engines import worker as module
from embedkit.extraction.engines.described import DescribedEncoder, describe_encoder
from embedkit.extraction.engines.worker import Worker
from embedkit.extraction.plan import ExtractionPlan, WorkerTask
from embedkit.extraction.run import run_extraction
from embedkit.extraction.segments import Failures, stamp_files, survey
from embedkit.extraction.shards import ShardReader
from tests.extraction.fakes import FakeEncoder, load_fake, request_for, write_corpus


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.0)


@pytest.fixture
def task(tmp_path: Path) -> WorkerTask:
    """All of a small corpus in one shard; the folder of the extraction holds its plan."""
    corpus = write_corpus(tmp_path / "audio")
    failures = Failures("fail")
    stamps = stamp_files(corpus, failures)
    segments = survey(corpus, corpus.utterances, stamps, sampling_rate=1000, workers=1, failures=failures)
    plan = ExtractionPlan(
        fingerprint="f", batch_seconds=4.0, shard_seconds=100.0, threads=1, device="cpu", sampling_rate=1000
    ).revise(segments)
    (tmp_path / "work").mkdir()
    plan.save(tmp_path / "work" / "plan.json")
    (task,) = plan.tasks(tmp_path / "work").values()
    return task


def config_for(folder: Path, **changes: Any) -> EncodingConfig:
    """What travels to a worker: the encoder is described."""
    config = EncodingConfig(
        encoder=DescribedEncoder(describe_encoder(FakeEncoder())),
        root=folder / "audio",
        frame_dtype="float32",
        windows=None,
        batch_seconds=4.0,
        threads=1,
    )
    return replace(config, **changes)


def new_worker(load: Any = load_fake) -> Worker:
    return Worker(load, "cpu", "fp32", 1)


def test_a_shard_is_written_and_nothing_else_comes_back(tmp_path: Path, task: WorkerTask) -> None:
    assert new_worker().run(config_for(tmp_path), task) == ([], None)
    assert len(ShardReader(task.path).entries) == 12


def test_the_encoder_is_loaded_once(tmp_path: Path, task: WorkerTask) -> None:
    loaded = []

    def load(**options: str) -> FakeEncoder:
        loaded.append(options)
        return FakeEncoder()

    worker = new_worker(load)
    worker.describe()
    for name in ("a", "b"):
        worker.run(config_for(tmp_path), task._replace(path=tmp_path / "work" / f"{name}.shard")).unwrap()
    assert loaded == [{"device": "cpu", "precision": "fp32"}]


def test_a_description_stands_for_the_encoder(tmp_path: Path) -> None:
    described, encoder = DescribedEncoder(new_worker().describe().unwrap()), FakeEncoder()
    assert described.identity() == encoder.identity()
    assert (described.layers, described.dimensions) == (encoder.layers, encoder.dimensions)
    assert all(described.frame_count(samples) >= encoder.frame_count(samples) for samples in range(1, 3000, 7))
    with pytest.raises(ExtractionError, match="other processes"):
        described.encode([], print)


@pytest.mark.parametrize("missing", ["work", "audio"])
def test_folders_that_are_not_shared_are_told(tmp_path: Path, task: WorkerTask, missing: str) -> None:
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    reply = new_worker().run(config_for(tmp_path), task)
    with pytest.raises(ExtractionError, match=r"The worker on .* does not see .*machines of the cluster"):
        reply.unwrap()


def test_other_weights_and_other_versions_are_refused(tmp_path: Path, task: WorkerTask) -> None:
    reply = new_worker(partial(load_fake, gain=2.0)).run(config_for(tmp_path), task)
    with pytest.raises(ExtractionError, match=r"other weights or options \(weights_digest: gain 2.0, expected gain 1"):
        reply.unwrap()
    other = {**describe_encoder(FakeEncoder()), "identity": {**FakeEncoder().identity(), "versions": {"fake": "2"}}}
    reply = new_worker().run(config_for(tmp_path, encoder=DescribedEncoder(other)), task)
    with pytest.raises(ExtractionError, match=r"other versions of libraries \(fake: 1, expected 2\)"):
        reply.unwrap()
    assert not task.path.exists()


def test_problems_travel_as_words(tmp_path: Path, task: WorkerTask) -> None:
    def no_encoder(**options: str) -> FakeEncoder:
        raise EncoderError("There is no such encoder.")

    with pytest.raises(EncoderError, match=r"There is no such encoder\."):
        new_worker(no_encoder).describe().unwrap()

    def full_disk(**options: str) -> FakeEncoder:
        raise OSError(28, "No space left on device", "/somewhere")

    with pytest.raises(OSError, match="No space left") as caught:
        new_worker(full_disk).describe().unwrap()
    assert (caught.value.errno, caught.value.filename) == (28, "/somewhere")


def test_an_utterance_that_cannot_be_used_stops_or_is_noted(tmp_path: Path, task: WorkerTask) -> None:
    (tmp_path / "audio" / "u003.wav").write_bytes(b"RIFF")
    reply = new_worker().run(config_for(tmp_path), task)
    with pytest.raises(ExtractionError, match=r"'u003' cannot be used: .*--on-error skip"):
        reply.unwrap()
    assert not task.path.exists()
    new_worker().run(config_for(tmp_path, on_error="skip"), task).unwrap()
    assert [segment.id for segment, _ in ShardReader(task.path).failures] == ["u003"]


def test_an_engine_is_given_what_was_asked_for(tmp_path: Path) -> None:
    seen: list[EncodingConfig] = []

    class Recording(LocalEngine):
        def run(self, config: EncodingConfig, *others: Any) -> None:
            seen.append(config)
            super().run(config, *others)

    corpus, encoder = write_corpus(tmp_path / "audio"), FakeEncoder()
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder, workers=3, on_error="skip"), Recording())
    assert seen == [config_for(tmp_path, encoder=encoder, workers=3, on_error="skip")]


def test_the_error_of_a_precision_is_measured_where_the_encoder_is(tmp_path: Path, task: WorkerTask) -> None:
    def load(*, device: str, precision: str) -> FakeEncoder:
        return FakeEncoder(gain=1.0 if precision == "fp32" else 1.01)

    worker = Worker(load, "cpu", "bf16", 1)
    assert worker.measure(config_for(tmp_path), task.shard).unwrap() == pytest.approx(0.01, rel=1e-4)
    silent = tuple(tuple(segment._replace(path="missing.wav") for segment in batch) for batch in task.shard)
    assert worker.measure(config_for(tmp_path), silent).unwrap() is None
