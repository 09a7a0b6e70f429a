"""Classify or rate audio files with the heads of a fitted run."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from embedkit.audio import read_audio
from embedkit.corpora.base import Corpus, Utterance
from embedkit.errors import RunError
from embedkit.heads import expand_head, resolve_head
from embedkit.store.reader import Store
from embedkit.training.features import Standardiser
from embedkit.training.runs import RunRecord, read_run
from embedkit.training.scoring import score_heads
from embedkit.training.stack import Recipe
from embedkit.training.targets import Scale
from embedkit.training.task import load_features, take_all
from embedkit.workflows.extract import extract_embeddings
from embedkit.workflows.fit import choose_device


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a run says of one audio file.

    Attributes:
        path: The file as it was given.
        label: The most probable class; empty for a run that predicts dimensions.
        probabilities: Class -> probability, averaged over the run's heads (all folds and seeds).
        dimensions: Dimension -> rating in the unit of the run's corpus, averaged alike; empty for classes.
    """

    path: str
    label: str = ""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    dimensions: Mapping[str, float] = field(default_factory=dict)

    @property
    def told(self) -> dict[str, Any]:
        """What is printed: what the run can tell."""
        if self.dimensions:
            return {"path": self.path, "dimensions": dict(self.dimensions)}
        return {"path": self.path, "label": self.label, "probabilities": dict(self.probabilities)}


_NEEDED = ("head_spec", "loss_spec", "classes", "seeds", "folds", "store")


def predict_audio(
    run: str | os.PathLike[str] | RunRecord,
    audio: Sequence[str | os.PathLike[str]],
    *,
    device: str = "auto",
    sources: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Prediction]:
    """Encode audio files as the run's store was made and average what all its heads say: probabilities, or ratings.

    Args:
        run: A run's folder, or its record.
        audio: Audio files.
        device: "auto", "cpu" or "cuda".
        sources: Where encoder names lead, if elsewhere than when the store was made (`[encoders]` of embedkit.toml).
        tell: Receives what is worth saying.

    Raises:
        RunError: no run, a damaged one, one normalised by speaker, or an encoder that is not the run's.
        AudioError: a file that is missing or cannot be used.
        EncoderError: the encoder cannot be had any more.
    """
    record = run if isinstance(run, RunRecord) else read_run(Path(run))
    if not audio:
        return []
    if record.config.get("normalise"):
        raise RunError(
            f"The run {record.folder} normalises each speaker by all of their utterances, which single files cannot "
            "give; fit one without --normalise to predict with."
        )
    for path in audio:
        # What cannot be decoded is told by the file's name, before the encoder is loaded.
        read_audio(path, sampling_rate=int(record.config["store"]["encoder"]["sampling_rate"]))
    _, head_class, _ = resolve_head(expand_head(record.config["head_spec"])[0])
    with tempfile.TemporaryDirectory(prefix="embedkit-") as folder:
        corpus = _corpus_of([Path(path) for path in audio])
        store = _encode(record, corpus, head_class.level, Path(folder), device=device, sources=sources, tell=tell)
        with store:
            features = load_features(
                store,
                take_all(store),
                head_class.level,
                choose_device(device),
                layer=record.config.get("layer"),
            )
            outputs = _score(record, features, len(audio))
            order = {name: place for place, name in enumerate(store.ids.tolist())}
    return [
        _prediction(str(path), record.config, outputs[order[utterance.id]])
        for path, utterance in zip(audio, corpus.utterances, strict=True)
    ]


def _corpus_of(paths: Sequence[Path]) -> Corpus:
    width = len(str(len(paths)))
    utterances = tuple(
        Utterance(id=f"{number:0{width}d}", path=str(path.resolve()), label="?") for number, path in enumerate(paths)
    )
    return Corpus(name="audio", kind="files", root=Path("/"), utterances=utterances)


def _encode(
    record: RunRecord,
    corpus: Corpus,
    level: str,
    folder: Path,
    *,
    device: str,
    sources: Mapping[str, str] | None,
    tell: Callable[[str], None],
) -> Store:
    known = record.config["store"]
    identity, options = known["encoder"], known["options"]
    windows = options.get("max_seconds")
    network = next((part for part in _parts(identity) if part.get("weights_digest")), None)
    window = network["window"] if network else None
    store = extract_embeddings(
        corpus,
        encoder=identity["name"],
        layers=",".join(map(str, identity["layers"])) if network else "all",
        level="both" if level == "frame" else "utterance",
        frame_dtype=options.get("frame_dtype"),
        out=folder / "audio.h5",
        device=device,
        precision=network["precision"] if network else "fp32",
        window=window if isinstance(window, str | int | float) else "clip",
        max_seconds=windows["seconds"] if windows else None,
        sources={**_sources(identity), **(sources or {})},
        progress=False,
    )
    for expected, found in zip(_digests(identity), _digests(store.encoder), strict=True):
        if expected != found:
            raise RunError(
                f"The encoder {identity['name']!r} found now has other weights ({str(found)[:12]}) than the run's "
                f"({str(expected)[:12]}); name the run's under [encoders] in embedkit.toml, or fit again."
            )
    return store


def _parts(identity: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(identity.get("parts") or [identity])


def _digests(identity: Mapping[str, Any]) -> list[str | None]:
    return [part.get("weights_digest") for part in _parts(identity)]


def _sources(identity: Mapping[str, Any]) -> dict[str, str]:
    """Return where the encoder's weights came from, by the names it had."""
    found = {}
    for part in _parts(identity):
        if part.get("weights_digest") is not None and part.get("source"):
            revision = part.get("revision")
            found[str(part["name"])] = f"{part['source']}@{revision}" if revision else str(part["source"])
    return found


def _score(record: RunRecord, features: Any, count: int) -> NDArray[np.float64]:
    """Average what the heads of all folds and seeds say: `[utterances, classes]`, or `[utterances, dimensions]`."""
    config = record.config
    heads = {(choice["fold"], choice["seed"]): choice.get("head", config["head_spec"]) for choice in config["choices"]}
    recipe = Recipe(head=config["head_spec"], classes=len(config.get("dimensions") or config["classes"]))
    tensors = record.load_heads()
    everything = np.arange(count)
    totals = []
    for fold, name in enumerate(config["folds"]["names"]):
        try:
            standardiser = Standardiser(mean=tensors[f"{fold}/mean"], scale=tensors[f"{fold}/scale"])
            scale = _scale(tensors, fold) if config.get("dimensions") else None
            states = [_state(tensors, f"{fold}/{seed}/") for seed in config["seeds"]]
        except KeyError as error:
            raise RunError(
                f"The heads of {record.folder} lack {error}; run embedkit fit again with --overwrite."
            ) from None
        own = [heads[name, seed] for seed in config["seeds"]]
        found = score_heads(features, own, config["loss_spec"], states, standardiser, everything, recipe, scale=scale)
        totals.append(found.mean(0))
    mean: NDArray[np.float64] = np.mean(totals, axis=0)
    return mean


def _scale(tensors: Mapping[str, Tensor], fold: int) -> Scale:
    scale = Scale.load(tensors, f"{fold}/")
    if scale is None:
        raise KeyError(f"{fold}/rating_mean")
    return scale


def _state(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _prediction(path: str, config: Mapping[str, Any], outputs: NDArray[np.float64]) -> Prediction:
    names = config.get("dimensions") or config["classes"]
    told = {name: float(value) for name, value in zip(names, outputs, strict=True)}
    if config.get("dimensions"):
        return Prediction(path=path, dimensions=told)
    return Prediction(path=path, label=names[int(outputs.argmax())], probabilities=told)


def render_predictions(predictions: Sequence[Prediction], format: Literal["text", "csv", "json"] = "text") -> str:
    """Write predictions as text (one line each, classes by probability, or dimensions), CSV or JSON."""
    if format == "json":
        return json.dumps([found.told for found in predictions], indent=2, ensure_ascii=False)
    if format == "csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        if predictions and predictions[0].dimensions:
            writer.writerow(["path", *predictions[0].dimensions])
            writer.writerows([found.path, *found.dimensions.values()] for found in predictions)
            return buffer.getvalue().rstrip("\n")
        writer.writerow(["path", "label", *(predictions[0].probabilities if predictions else ())])
        writer.writerows([found.path, found.label, *found.probabilities.values()] for found in predictions)
        return buffer.getvalue().rstrip("\n")
    return "\n".join(f"{found.path}: {_describe(found)}" for found in predictions)


def _describe(found: Prediction) -> str:
    if found.dimensions:
        return ", ".join(f"{name} {value:.2f}" for name, value in found.dimensions.items())
    ranked = sorted(found.probabilities.items(), key=lambda item: -item[1])
    return f"{found.label} ({', '.join(f'{label} {share:.2f}' for label, share in ranked)})"
