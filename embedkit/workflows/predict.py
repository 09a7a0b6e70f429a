"""Classify or rate audio with the heads of a fitted run, clip after clip as it comes."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.arguments import checked
from embedkit.audio import probe_audio
from embedkit.cells import write_cell
from embedkit.corpora.clips import Clip, find_clips
from embedkit.corpora.emotions import map_labels
from embedkit.devices import resolve_device
from embedkit.encoders.precision import true_fp32
from embedkit.errors import AudioError, ConfigError, RunError
from embedkit.export.clip import layer_place
from embedkit.export.encoder import find_encoder, group_by_encoder
from embedkit.export.ensemble import Ensemble
from embedkit.export.predictor import ChosenHead, Predictor, open_predictor
from embedkit.extraction.encoding import EncodingConfig
from embedkit.extraction.request import BATCH_SECONDS
from embedkit.extraction.streaming import LONGEST_PIECE_SECONDS, MANY_CLIPS, ask_clips, choose_passes
from embedkit.extraction.windows import Windows
from embedkit.options.call import takes_options
from embedkit.options.predict import CuttingOptions
from embedkit.progress import Tell
from embedkit.store.writer import UtteranceEmbedding
from embedkit.training.runs import RunRecord
from embedkit.wording import escape_controls
from embedkit.workflows.cut_clips import cut_clips, require_window
from embedkit.workflows.given_audio import Array, Names, Sound, check_rate
from embedkit.workflows.published import PublishedClassifier, choose_names, find_run

Audio: TypeAlias = str | os.PathLike[str] | Clip | Array | io.IOBase
OnError = Literal["fail", "skip"]
Format = Literal["text", "csv", "json", "jsonl"]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a run says of one clip.

    Attributes:
        path: The file as it was given.
        label: The most probable class; empty for a run that predicts emotional attributes.
        probabilities: Class -> probability, averaged over the run's heads (all folds and seeds).
        dimensions: Emotional attribute -> rating in the unit of the run's corpus, averaged alike; empty for classes.
        start, end: The stretch of the file in seconds, where one was named.
    """

    path: str
    label: str = ""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    dimensions: Mapping[str, float] = field(default_factory=dict)
    start: float | None = None
    end: float | None = None

    @property
    def values(self) -> list[float]:
        """The probabilities, or the ratings, in the order of the run's classes or attributes."""
        return list((self.dimensions or self.probabilities).values())

    @property
    def told(self) -> dict[str, Any]:
        """What is printed: what the run can tell."""
        times = {name: value for name, value in (("start", self.start), ("end", self.end)) if value is not None}
        if self.dimensions:
            return {"path": self.path, **times, "dimensions": dict(self.dimensions)}
        return {"path": self.path, **times, "label": self.label, "probabilities": dict(self.probabilities)}


def predict_audio(
    run: str | os.PathLike[str] | RunRecord,
    audio: Audio | Sequence[Audio],
    **options: Any,
) -> list[Prediction]:
    """Predict all clips and return them together; see `stream_predictions`, which takes the same arguments."""
    return list(stream_predictions(run, audio, **options))


@takes_options(CuttingOptions, "embedkit.predict")
@checked("embedkit.predict")
def stream_predictions(
    run: str | os.PathLike[str] | RunRecord,
    audio: Audio | Sequence[Audio],
    options: CuttingOptions,
    *,
    rate: int | None = None,
    fold: str | None = None,
    seed: int | None = None,
    map: Mapping[str, str] | None = None,
    device: str = "auto",
    on_error: OnError = "fail",
    sources: Mapping[str, str] | None = None,
    allow_code: str | Sequence[str] = (),
    of: int | None = None,
    tell: Tell = lambda _: None,
) -> Iterator[Prediction]:
    """Encode clips as the run's corpus was and average what all its heads say: probabilities, or ratings.

    Clips longer than the encoder takes at once are encoded in the windows of an extraction, which heads on utterance
    means do not notice. Of a clip of more than five minutes, heads on frames, and on features that are computed clip
    by clip, hear equal pieces of at most five minutes; what they say is averaged.

    Args:
        run: A run's folder, or its record, or a folder that `export_run` wrote, or what one is called on the Hugging
            Face Hub (`org/name`, `org/name@commit`); or a published classifier: a Hugging Face id, or the folder of its
            checkpoint, which hears clips as it was published.
        options: What of the clips is heard; users give each as an argument. Files of floats in the scale of 16 bits are
            always divided where those of the run's store were.
        audio: Audio files, folders of them, CSV lists (see `find_clips`), or clips; NumPy arrays `[samples]` of one
            channel, and open files.
        rate: Samples a second of arrays.
        fold: Ask only the heads of this fold; None for the mean over all.
        seed: Ask only the heads of this seed; None for the mean over all.
        map: Of a published classifier alone: which labels count, and as what; of several that count as one the
            probabilities are added. Without it all count.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        on_error: "fail" at the first clip that cannot be used, or "skip" it and tell.
        sources: Where encoder names lead, if elsewhere than when the store was made (`[encoders]` of embedkit.toml).
        allow_code: Packages of your own that the run may name parts of; see docs/security.md.
        of: How many clips there are with those that were predicted before, so that the rest comes out the same to the
            bit; None where there are no others.
        tell: Receives what is worth saying.

    Yields:
        One prediction for each clip, or each window or stretch of speech in it, in order, as soon as it is known.

    Raises:
        CodeError: the run names code that is not allowed.
        RunError: no run, a damaged one, one normalised by speaker, or an encoder that is not the run's.
        CorpusError: a folder without audio, or a list that cannot be read.
        AudioError: a clip that is missing or cannot be used; all of them where they are skipped; no speech in any.
        ConfigError: windows shorter than what the encoder hears, or longer steps than windows.
        EncoderError: the encoder is no longer available.
    """
    if on_error not in ("fail", "skip"):
        raise ConfigError(f"--on-error is {on_error!r}, expected fail or skip.")
    source = run if isinstance(run, RunRecord) else find_run(run, sources or {}, tell)
    published = source is None
    if published and (fold, seed) != (None, None):
        raise ConfigError(f"{run} is a published classifier, without folds and seeds; leave out --fold and --seed.")
    if map and not published:
        raise ConfigError(f"{run} is a run with classes of its own; leave out --map, or name a published classifier.")
    predictor = (
        None if source is None else open_predictor(source, fold=fold, seed=seed, allow_code=allow_code, tell=tell)
    )
    given = [audio] if isinstance(audio, str | os.PathLike | Clip | np.ndarray | io.IOBase) else audio
    check_rate(given, rate)
    names = Names()

    def say(text: str) -> None:
        tell(names.put(text))

    hearing: dict[str, Any] = {"device": device, "tell": say, "window": options.window}
    hearing |= {"max_hours": options.max_hours, "rescale": options.rescale}
    with tempfile.TemporaryDirectory(prefix="embedkit-") as folder, names.in_errors():
        clips = [
            clip
            for number, one in enumerate(given, 1)
            for clip in _clips(one, rate, Path(folder, f"{number}.wav"), number, names, on_error=on_error, tell=tell)
        ]
        if on_error == "fail":
            for clip in clips:
                if not clip.path.is_file():
                    probe_audio(clip.path)
        if not clips and not given:
            return
        if not clips:
            raise AudioError(f"Not one of the {len(given)} clips could be used; see what was said of each.")
        hearing["side_by_side"] = options.cuts or (of or len(clips)) >= MANY_CLIPS
        told, listeners = (
            _ask_classifier(str(run), map or {}, sources=sources or {}, **hearing)
            if predictor is None
            else _ask_heads(predictor, sources=sources, **hearing)
        )
        cut = cut_clips(clips, options, say)
        own, *others = tee(cut, 1 + len(listeners))
        streams = [listen(one) for listen, one in zip(listeners, others, strict=True)]
        yield from tell_predictions(told, own, streams, on_error=on_error, tell=say)


def _clips(
    audio: Audio, rate: int | None, path: Path, number: int, names: Names, *, on_error: OnError, tell: Tell
) -> list[Clip]:
    """List the clips of what was given; what lies in no file is written to one."""
    if isinstance(audio, Clip):
        return [audio]
    if isinstance(audio, np.ndarray | io.IOBase):
        try:
            sound = Sound.take(audio, rate, number)
        except AudioError as error:
            if on_error == "fail":
                raise
            tell(f"Left out: {error}")
            return []
        sound.write(path)
        names[str(path)] = sound.name
        return [Clip(name=sound.name, path=path)]
    return find_clips([audio], tell)


def tell_predictions(
    told: Asked, clips: Iterable[Clip], streams: Sequence[Outputs], *, on_error: OnError, tell: Tell
) -> Iterator[Prediction]:
    """Yield the predictions of clips from what is said of each, which is added up.

    Raises:
        AudioError: a clip that cannot be used; all of them where they are skipped.
        RunError: what is said is no number.
    """
    given = usable = 0
    for clip, *found in zip(clips, *streams, strict=True):
        given += 1
        outputs = _add_up(found)
        if not isinstance(outputs, AudioError):
            usable += 1
            yield told.predict(clip, outputs)
        elif on_error == "fail":
            raise AudioError(f"{outputs} Clips like this are left out with --on-error skip.") from outputs
        else:
            tell(f"Left out: {outputs}")
    if not usable:
        raise AudioError(f"Not one of the {given} clips could be used; see what was said of each.")


Output: TypeAlias = NDArray[np.float64] | AudioError
Outputs: TypeAlias = Iterator[Output]
Listen: TypeAlias = Callable[[Iterable[Clip]], Outputs]


def _add_up(found: Sequence[Output]) -> Output:
    """Add what is said of one clip by the heads of each encoder; the first reason where there is none."""
    outputs: list[NDArray[np.float64]] = []
    for one in found:
        if isinstance(one, AudioError):
            return one
        outputs.append(one)
    return np.asarray(np.sum(outputs, axis=0))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Of whom clips are asked, and what the outputs are."""

    source: str
    names: Sequence[str]
    rates: bool

    def predict(self, clip: Clip, outputs: NDArray[np.float64]) -> Prediction:
        if not np.isfinite(outputs).all():
            raise RunError(
                f"What {self.source} say of {clip.name!r} is no number: their weights are damaged; fit or export them "
                "again."
            )
        told = {name: float(value) for name, value in zip(self.names, outputs, strict=True)}
        if self.rates:
            return Prediction(path=clip.name, dimensions=told, start=clip.start, end=clip.end)
        label = self.names[int(outputs.argmax())]
        return Prediction(path=clip.name, label=label, probabilities=told, start=clip.start, end=clip.end)


def _ask_heads(predictor: Predictor, *, tell: Tell, window: float | None, **options: Any) -> tuple[Asked, list[Listen]]:
    groups = group_by_encoder(predictor)
    if len(groups) > 1:
        tell(
            f"The run has {len(groups)} encoders, and all of them hear every clip; --fold and --seed choose one, which "
            f"takes 1/{len(groups)} of the time."
        )
    parts = [_Part(predictor, heads, tell=tell, **options) for heads in groups]
    for part in parts:
        require_window(window, part.encoder)
    return _name_heads(predictor), [part.score for part in parts]


def _name_heads(predictor: Predictor) -> Asked:
    return Asked(source=f"the heads of {predictor.folder}", names=predictor.names, rates=predictor.rates)


def _ask_classifier(
    name: str,
    given: Mapping[str, str],
    *,
    device: str,
    sources: Mapping[str, str],
    window: float | None,
    tell: Tell,
    **options: Any,
) -> tuple[Asked, list[Listen]]:
    classifier = PublishedClassifier(name, device=device, precision="fp32", sources=sources)
    require_window(window, classifier.encoder)
    mapped = map_labels(classifier.labels, given, None, least=1 if classifier.rates else 2)
    if classifier.note:
        tell(classifier.note)
    told = Asked(source=f"the weights of {name}", names=choose_names(mapped), rates=classifier.rates)
    return told, [partial(classifier.score, mapped=mapped, tell=tell, **options)]


def open_listener(predictor: Predictor, **options: Any) -> Callable[[Sequence[Clip]], Iterator[Prediction]]:
    """Load the encoders of a run once; what is returned yields what its heads say of each clip.

    Args:
        predictor: The run.
        options: device, sources, max_hours, rescale and tell, as `stream_predictions` has them.

    Raises:
        EncoderError, RunError: as `stream_predictions`; when it is called AudioError, at the first clip that cannot be
            used, and RunError: what is said is no number.
    """
    parts = [_Part(predictor, heads, **options) for heads in group_by_encoder(predictor)]
    told = _name_heads(predictor)

    def listen(clips: Sequence[Clip]) -> Iterator[Prediction]:
        for clip, *found in zip(clips, *(part.score(clips) for part in parts), strict=True):
            outputs = _add_up(found)
            if isinstance(outputs, AudioError):
                raise outputs
            yield told.predict(clip, outputs)

    return listen


class _Part:
    """The heads that read one encoder, and their share in the mean."""

    def __init__(
        self,
        predictor: Predictor,
        heads: tuple[ChosenHead, ...],
        *,
        device: str,
        sources: Mapping[str, str] | None,
        max_hours: float,
        rescale: bool,
        tell: Tell,
        side_by_side: bool = False,
    ) -> None:
        self.device = resolve_device(device)
        self.encoder = find_encoder(predictor, heads, device=device, sources=sources)
        self.ensemble = Ensemble(predictor, heads).to(self.device)
        self.share = len(heads) / len(predictor.heads)
        self.place, self.on_frames, self.tell = layer_place(predictor), predictor.level == "frame", tell
        self.pool = predictor.pool
        options = predictor.config["store"].get("options") or {}
        asked = options.get("max_seconds")
        self.config = EncodingConfig(
            encoder=self.encoder,
            root=Path(),
            frame_dtype=(options.get("frame_dtype") or self.encoder.default_frame_dtype) if self.on_frames else None,
            windows=Windows.for_encoder(self.encoder, asked["seconds"] if asked else None),
            batch_seconds=BATCH_SECONDS[self.device.type],
            threads=torch.get_num_threads(),
            passes=choose_passes(self.encoder, torch.get_num_threads(), side_by_side=side_by_side),
            max_hours=max_hours,
            rescale=rescale or bool(options.get("rescale")),
            digests=False,
        )

    def score(self, clips: Iterable[Clip]) -> Outputs:
        """Yield what the heads say of each clip, times their share; or why it cannot be used."""
        whole = not (self.on_frames or self.config.windows is None)
        most = math.inf if whole else LONGEST_PIECE_SECONDS
        for found in ask_clips(self.config, clips, most, self._ask, self.tell):
            yield found if isinstance(found, AudioError) else self.share * found

    @torch.inference_mode()
    @true_fp32()
    def _ask(self, rows: UtteranceEmbedding) -> NDArray[np.float64]:
        pooled = rows.mean if self.pool == "mean" else np.concatenate([rows.mean, rows.std], axis=-1)
        values = rows.frames if self.on_frames else pooled
        assert values is not None
        chosen = values if self.place is None else values[..., self.place : self.place + 1, :]
        tensor = torch.from_numpy(np.ascontiguousarray(chosen, dtype=np.float32))[None].to(self.device)
        lengths = torch.tensor([tensor.shape[1]], device=self.device) if self.on_frames else None
        scores: NDArray[np.float64] = self.ensemble(tensor, lengths)[0].cpu().double().numpy()
        return scores


def render_predictions(
    predictions: Iterable[Prediction],
    format: Format = "text",
    *,
    segments: bool = False,
) -> Iterator[str]:
    """Write predictions line by line as they come.

    Args:
        predictions: As `stream_predictions` yields them.
        format: "text" (classes by probability, or emotional attributes), "csv", "json" (one list) or "jsonl" (an object
            a line).
        segments: Whether a CSV has columns for start and end.
    """
    if format == "csv":
        yield from _csv_lines(predictions, segments=segments)
    elif format == "json":
        before = "["
        for found in predictions:
            yield before + "\n" * (before == "[") + json.dumps(found.told, ensure_ascii=False)
            before = ","
        yield "[]" if before == "[" else "]"
    else:
        write = _describe if format == "text" else lambda found: json.dumps(found.told, ensure_ascii=False)
        yield from map(write, predictions)


def _csv_lines(predictions: Iterable[Prediction], *, segments: bool) -> Iterator[str]:
    times = ["start", "end"] if segments else []
    for number, found in enumerate(predictions):
        values = found.dimensions or found.probabilities
        if number == 0:
            yield _csv_line(["path", *times, *([] if found.dimensions else ["label"]), *values])
        own = [found.start, found.end] if segments else []
        yield _csv_line([found.path, *own, *([] if found.dimensions else [found.label]), *values.values()])


def _csv_line(fields: Sequence[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow([write_cell(field) for field in fields])
    return buffer.getvalue()


def _describe(found: Prediction) -> str:
    where = found.path
    if found.start is not None or found.end is not None:
        where += f" [{found.start or 0:g} s to {'its end' if found.end is None else f'{found.end:g} s'}]"
    if found.dimensions:
        told = ", ".join(f"{name} {value:.2f}" for name, value in found.dimensions.items())
    else:
        ranked = sorted(found.probabilities.items(), key=lambda item: -item[1])
        told = f"{found.label} ({', '.join(f'{label} {share:.2f}' for label, share in ranked)})"
    return escape_controls(f"{where}: {told}")
