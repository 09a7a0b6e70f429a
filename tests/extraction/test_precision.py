"""What a reduced precision changes is measured, said and kept; it is never mixed with another one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from embedkit.corpora.base import Corpus
from embedkit.encoders import precision as precisions
from embedkit.encoders.base import LayerSink
from embedkit.errors import ExtractionError
from embedkit.extraction.engines import LocalEngine
from embedkit.extraction.run import run_extraction
from embedkit.store import open_store
from embedkit.workflows.extract import extract_embeddings
from embedkit.workflows.inspect import describe_store
from tests.encoders.checkpoints import write_conv_checkpoint
from tests.extraction.fakes import FakeEncoder, request_for, write_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path / "audio")


class ReducedEncoder(FakeEncoder):
    """Is off by 1 % in layer 0, 2 % in layer 1, 3 % in layer 2; stops at a batch."""

    def __init__(self, *, stops_at: int | None = None) -> None:
        super().__init__()
        self.stops_at = stops_at

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"precision": "bf16"}

    def one(self, wave: Tensor, position: int) -> Tensor:
        return super().one(wave, position) * (1.01 + 0.01 * position)

    def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        if len(self.calls) == self.stops_at:
            raise KeyboardInterrupt
        super().encode(waveforms, sink)


class Loader:
    """Loads a reduced encoder, or the one in fp32, and counts."""

    def __init__(self, reduced: FakeEncoder) -> None:
        self.reduced = reduced
        self.loaded: list[str] = []

    def __call__(self, *, device: str, precision: str) -> FakeEncoder:
        self.loaded.append(precision)
        return FakeEncoder() if precision == "fp32" else self.reduced


def run_reduced(corpus: Corpus, out: Path, loader: Loader, **changes: Any) -> None:
    engine = LocalEngine()
    encoder = engine.load_encoder(loader, device="cpu", precision="auto", threads=1)
    request = request_for(corpus, out, encoder, precision="auto", **changes)  # type: ignore[arg-type]
    run_extraction(request, engine)


def test_the_choice_and_its_error_are_said_and_kept(tmp_path: Path, corpus: Corpus) -> None:
    told: list[str] = []
    run_reduced(corpus, tmp_path / "s.h5", Loader(ReducedEncoder()), tell=told.append)
    kept = open_store(tmp_path / "s.h5").extraction["precision"]
    assert kept == {"asked": "auto", "used": "bf16", "relative_error": pytest.approx(0.03, rel=1e-4)}
    measured = "relative error against fp32, on a few seconds of the first batch, 3.0e-02 (worst layer)"
    assert f"--precision auto takes bf16: {measured}." in told
    assert "bf16 on cpu (3.0e-02 from fp32, by a few seconds)" in str(describe_store(tmp_path / "s.h5"))


def test_an_extraction_that_continues_keeps_what_was_measured(tmp_path: Path, corpus: Corpus) -> None:
    with pytest.raises(ExtractionError, match="Stopped"):
        run_reduced(corpus, tmp_path / "s.h5", Loader(ReducedEncoder(stops_at=5)))
    loader = Loader(ReducedEncoder())
    run_reduced(corpus, tmp_path / "s.h5", loader)
    assert loader.loaded == ["auto"]
    run_reduced(corpus, tmp_path / "fresh.h5", Loader(ReducedEncoder()))
    assert (tmp_path / "s.h5").read_bytes() == (tmp_path / "fresh.h5").read_bytes()


def test_continuing_in_another_precision_is_refused(tmp_path: Path, corpus: Corpus) -> None:
    with pytest.raises(ExtractionError, match="Stopped"):
        run_reduced(corpus, tmp_path / "s.h5", Loader(ReducedEncoder(stops_at=5)))
    with pytest.raises(ExtractionError, match=r"unfinished extraction with another .*precision.*--overwrite"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", FakeEncoder()))
    run_reduced(corpus, tmp_path / "s.h5", Loader(ReducedEncoder()))
    with pytest.raises(ExtractionError, match="differing in precision"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", FakeEncoder()))


def test_fp32_is_measured_against_nothing(tmp_path: Path, corpus: Corpus) -> None:
    told: list[str] = []
    run_extraction(request_for(corpus, tmp_path / "s.h5", FakeEncoder(), precision="auto", tell=told.append))
    kept = open_store(tmp_path / "s.h5").extraction["precision"]
    assert kept == {"asked": "auto", "used": "fp32", "relative_error": 0.0}
    assert any(sentence.startswith("--precision auto takes fp32") for sentence in told)


@pytest.mark.parametrize("fast", [False, True])
def test_fp32_hints_at_a_faster_precision_where_there_is_one(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    monkeypatch.setattr(precisions, "read_cpu_flags", lambda: {"avx512_bf16"} if fast else {"avx2"})
    encoder, told = FakeEncoder(), []
    encoder.dtype, encoder.device = torch.float32, torch.device("cpu")  # type: ignore[attr-defined]
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder, tell=told.append))
    assert any("--precision auto would take bf16" in sentence for sentence in told) == fast


@pytest.mark.parametrize(("flags", "used"), [({"avx512_bf16"}, "bf16"), ({"amx_bf16"}, "bf16"), ({"avx2"}, "fp32")])
def test_auto_follows_the_instructions_of_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: set[str], used: str
) -> None:
    monkeypatch.setattr(precisions, "read_cpu_flags", lambda: flags)
    checkpoint = write_conv_checkpoint(tmp_path / "tiny", "hubert")
    corpus = write_corpus(tmp_path / "audio", 3)
    store = extract_embeddings(
        corpus, encoder=str(checkpoint), out=tmp_path / "s.h5", device="cpu", precision="auto", threads=1
    )
    assert store.encoder["precision"] == used
    kept = store.extraction["precision"]
    assert (kept["asked"], kept["used"]) == ("auto", used)
    assert (1e-4 < kept["relative_error"] < 0.1) if used == "bf16" else kept["relative_error"] == 0.0
