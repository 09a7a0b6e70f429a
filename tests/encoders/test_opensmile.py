"""eGeMAPS and ComParE against the bare library, alone and in batches."""

import json
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import embedkit
from embedkit.corpora import Corpus, Utterance
from embedkit.encoders import ENCODERS, load_encoder
from embedkit.encoders.base import Encoder
from embedkit.errors import EncoderError, ExtractionError
from embedkit.installation import install_command
from tests.encoders.single_layer import encode, speechlike

opensmile = pytest.importorskip("opensmile", reason="opensmile is not installed (pip install '.[opensmile]')")


SETS = {
    "egemaps": ("eGeMAPSv02", "Functionals", 88),
    "egemaps-lld": ("eGeMAPSv02", "LowLevelDescriptors", 25),
    "compare": ("ComParE_2016", "Functionals", 6373),
    "compare-lld": ("ComParE_2016", "LowLevelDescriptors", 65),
}
FUNCTIONALS = ["egemaps", "compare"]


@pytest.fixture(scope="module")
def encoders() -> dict[str, Encoder]:
    return {name: load_encoder(name) for name in SETS}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("samples", [960, 16_000, 50_001])
def test_features_are_the_librarys(encoders: dict[str, Encoder], name: str, samples: int) -> None:
    feature_set, level, count = SETS[name]
    smile = opensmile.Smile(feature_set=opensmile.FeatureSet[feature_set], feature_level=opensmile.FeatureLevel[level])
    clip = speechlike(samples)
    table = smile.process_signal(clip.numpy(), 16_000)
    (values,) = encode(encoders[name], [clip])
    assert values.shape == (len(table), count)
    assert encoders[name].dimensions == count
    np.testing.assert_array_equal(values, table.to_numpy(np.float32))


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 9000), min_size=1, max_size=4))
@pytest.mark.parametrize("name", ["egemaps", "egemaps-lld", "compare-lld"])
def test_a_clip_never_depends_on_its_batch(encoders: dict[str, Encoder], name: str, lengths: list[int]) -> None:
    clips = [speechlike(samples, seed) for seed, samples in enumerate(lengths)]
    for clip, values in zip(clips, encode(encoders[name], clips), strict=True):
        assert len(values) == encoders[name].frame_count(len(clip))
        np.testing.assert_array_equal(values, encode(encoders[name], [clip])[0])


@pytest.mark.parametrize("samples", [1, 959, 960, 961, 1119, 1120, 16_000])
@pytest.mark.parametrize("name", SETS)
def test_silence_and_tiny_clips_are_finite_and_raise_no_warning(
    encoders: dict[str, Encoder], name: str, samples: int
) -> None:
    encoder = encoders[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for clip in (torch.zeros(samples), torch.ones(samples), speechlike(samples)):
            (values,) = encode(encoder, [clip])
            assert np.isfinite(values).all()
            assert len(values) == encoder.frame_count(samples)
    padded = torch.cat([speechlike(samples), torch.zeros(max(0, 960 - samples))])
    np.testing.assert_array_equal(encode(encoder, [speechlike(samples)])[0], encode(encoder, [padded])[0])


def test_functionals_are_kept_by_utterance_and_descriptors_by_frame(encoders: dict[str, Encoder]) -> None:
    for name, encoder in encoders.items():
        by_utterance = name in FUNCTIONALS
        assert encoder.default_levels == (("utterance",) if by_utterance else ("utterance", "frame"))
        assert encoder.default_head == ("linear" if by_utterance else "lstm")
        assert encoder.frame_rate == (0 if by_utterance else 100)
        assert encoder.default_frame_dtype == "float32"


def test_identities_are_json_complete_and_different(encoders: dict[str, Encoder]) -> None:
    identities = [json.loads(json.dumps(encoder.identity())) for encoder in encoders.values()]
    for identity in identities:
        assert identity["versions"] == {"opensmile": opensmile.__version__}
        assert {"source", "revision", "weights_digest", "normalisation", "precision", "window"} <= identity.keys()
    assert len({(item["feature_set"], item["feature_level"]) for item in identities}) == 4


def write_corpus(folder: Path) -> Corpus:
    utterances = []
    for speaker in range(4):
        for label, pitch in (("high", 300.0), ("low", 110.0)):
            for take in range(2):
                time = np.arange(9000 + 800 * take) / 16_000
                rng = np.random.default_rng(speaker * 10 + take)
                samples = 0.3 * np.sign(np.sin(2 * np.pi * pitch * rng.uniform(0.9, 1.1) * time))
                name = f"{speaker}{label}{take}"
                soundfile.write(folder / f"{name}.wav", samples + 0.01 * rng.standard_normal(len(time)), 16_000)
                utterances.append(Utterance(id=name, path=f"{name}.wav", label=label, speaker=f"s{speaker}"))
    return Corpus(name="tones", kind="own", root=folder, utterances=tuple(utterances))


def test_functionals_are_extracted_inspected_and_fitted(
    tmp_path: Path, encoders: dict[str, Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    corpus = write_corpus(tmp_path)
    store = embedkit.extract(corpus, encoder="egemaps", progress=False)
    assert (store.levels, store.layers, store.dimensions) == (("utterance",), (0,), 88)
    waveform, _ = soundfile.read(tmp_path / "0high0.wav", dtype="float32")
    row = store.ids.tolist().index("0high0")
    np.testing.assert_array_equal(store.mean()[row], encode(encoders["egemaps"], [torch.from_numpy(waveform)])[0][0])
    from embedkit.workflows.inspect import describe_store

    assert "one vector an utterance" in " ".join(str(describe_store(store.path)).split())
    (record,) = embedkit.fit(store, seeds=1, epochs=10, batch_size=4, lr=[1e-2], progress=False)
    assert record.metrics["ua"] > 0.9
    (found,) = embedkit.predict(record, [tmp_path / "1low1.wav"], device="cpu")
    assert found.label == "low"


def test_functionals_stand_beside_the_frames_of_another_encoder(encoders: dict[str, Encoder]) -> None:
    combined = load_encoder("mfcc+egemaps")
    clip = speechlike(8000)
    (values,) = encode(combined, [clip])
    assert values.shape == (26, 39 + 88)
    expected = encode(encoders["egemaps"], [clip])[0]
    np.testing.assert_array_equal(values[:, 39:], np.repeat(expected, 26, axis=0))
    with pytest.raises(EncoderError, match="name it last"):
        load_encoder("egemaps+mfcc")


def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExtractionError, match="one vector a clip and cannot be cut; leave out --max-seconds"):
        embedkit.extract(
            write_corpus(tmp_path), encoder="egemaps", max_seconds=1, out=tmp_path / "x.h5", progress=False
        )
    with pytest.raises(EncoderError, match="has no window option"):
        load_encoder("compare", window=9)
    with pytest.raises(EncoderError, match="expected"):
        load_encoder("compare", layers="3")


@pytest.mark.parametrize("name", SETS)
def test_without_the_library_names_are_listed_and_one_sentence_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    assert ENCODERS.summary(name).endswith(f"(first {install_command('opensmile')})")
    said = f"encoder '{name}' needs opensmile, which is not installed; run {install_command('opensmile')}."
    with pytest.raises(EncoderError, match=re.escape(said)):
        load_encoder(name)
