"""Classify or rate audio with the heads of a fitted run, clip after clip as it comes."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.arguments import checked
from embedkit.audio import probe_audio
from embedkit.audio_streams import too_long
from embedkit.cells import write_cell
from embedkit.corpora.clips import Clip, find_clips
from embedkit.devices import resolve_device
from embedkit.encoders.precision import true_fp32
from embedkit.errors import AudioError, ConfigError, RunError
from embedkit.export.clip import layer_place
from embedkit.export.encoder import find_encoder, group_by_encoder
from embedkit.export.ensemble import Ensemble
from embedkit.export.predictor import ChosenHead, Predictor, open_predictor
from embedkit.extraction.encoding import EncodingConfig
from embedkit.extraction.request import BATCH_SECONDS
from embedkit.extraction.segments import AudioSegment, file_stamp
from embedkit.extraction.streaming import embed_stream
from embedkit.extraction.windows import Windows
from embedkit.options.extract import ExtractOptions
from embedkit.options.option import declared
from embedkit.progress import Tell
from embedkit.received import MOST_HOURS
from embedkit.store.writer import UtteranceEmbedding
from embedkit.training.runs import RunRecord
from embedkit.wording import escape_controls

LONGEST_PIECE_SECONDS = 300.0
"""Longer clips are heard in pieces where the whole of their frames would have to be in memory."""

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
    def told(self) -> dict[str, Any]:
        """What is printed: what the run can tell."""
        times = {name: value for name, value in (("start", self.start), ("end", self.end)) if value is not None}
        if self.dimensions:
            return {"path": self.path, **times, "dimensions": dict(self.dimensions)}
        return {"path": self.path, **times, "label": self.label, "probabilities": dict(self.probabilities)}


def predict_audio(
    run: str | os.PathLike[str] | RunRecord,
    audio: str | os.PathLike[str] | Sequence[str | os.PathLike[str] | Clip],
    **options: Any,
) -> list[Prediction]:
    """Predict all clips and return them together; see `stream_predictions`, which takes the same arguments."""
    return list(stream_predictions(run, audio, **options))


@checked("embedkit.predict")
def stream_predictions(
    run: str | os.PathLike[str] | RunRecord,
    audio: str | os.PathLike[str] | Sequence[str | os.PathLike[str] | Clip],
    *,
    fold: str | None = None,
    seed: int | None = None,
    device: str = "auto",
    on_error: OnError = "fail",
    sources: Mapping[str, str] | None = None,
    allow_code: str | Sequence[str] = (),
    max_hours: float = MOST_HOURS,
    rescale: bool = False,
    tell: Tell = lambda _: None,
) -> Iterator[Prediction]:
    """Encode clips as the run's corpus was and average what all its heads say: probabilities, or ratings.

    Clips longer than the encoder takes at once are encoded in the windows of an extraction, which heads on utterance
    means do not notice. Of a clip of more than five minutes, heads on frames, and on features that are computed clip
    by clip, hear equal pieces of at most five minutes; what they say is averaged.

    Args:
        run: A run's folder, or its record, or a folder that `export_run` wrote, or what one is called on the Hugging
            Face Hub: `org/name`, or `org/name@commit`.
        audio: Audio files, folders of them, CSV lists (see `find_clips`), or clips.
        fold, seed: Ask only the heads of this fold, or of this seed; None for the mean over all.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        on_error: "fail" at the first clip that cannot be used, or "skip" it and tell.
        sources: Where encoder names lead, if elsewhere than when the store was made (`[encoders]` of embedkit.toml).
        allow_code: Packages of your own that the run may name parts of; see docs/security.md.
        max_hours: What a clip may last.
        rescale: Whether files of floats in the scale of 16 bits are divided by 32768, as always if the run's store was
            made so.
        tell: Receives what is worth saying.

    Yields:
        One prediction for each clip, in order, as soon as it is known.

    Raises:
        CodeError: the run names code that is not allowed.
        RunError: no run, a damaged one, one normalised by speaker, or an encoder that is not the run's.
        CorpusError: a folder without audio, or a list that cannot be read.
        AudioError: a clip that is missing or cannot be used; all of them where they are skipped.
        EncoderError: the encoder is no longer available.
    """
    if on_error not in ("fail", "skip"):
        raise ConfigError(f"--on-error is {on_error!r}, expected fail or skip.")
    declared(ExtractOptions)["max_hours"].check(max_hours, "--max-hours")
    source = run if isinstance(run, RunRecord) else Path(run)
    predictor = open_predictor(source, fold=fold, seed=seed, allow_code=allow_code, tell=tell)
    given = [audio] if isinstance(audio, str | os.PathLike) else audio
    clips = [clip for one in given for clip in ([one] if isinstance(one, Clip) else find_clips([one], tell))]
    if on_error == "fail":
        for clip in clips:
            if not clip.path.is_file():
                probe_audio(clip.path)
    if not clips:
        return
    groups = group_by_encoder(predictor)
    if len(groups) > 1:
        tell(
            f"The run has {len(groups)} encoders, and all of them hear every clip; --fold and --seed choose one, which "
            f"takes 1/{len(groups)} of the time."
        )
    parts = [
        _Part(predictor, heads, device=device, sources=sources, max_hours=max_hours, rescale=rescale, tell=tell)
        for heads in groups
    ]
    usable = 0
    for clip, *found in zip(clips, *(part.score(clips) for part in parts), strict=True):
        outputs = [one for one in found if not isinstance(one, AudioError)]
        problem = next((one for one in found if isinstance(one, AudioError)), None)
        if problem is None:
            usable += 1
            yield _prediction(clip, predictor, np.sum(outputs, axis=0))
        elif on_error == "fail":
            raise AudioError(f"{problem} Clips like this are left out with --on-error skip.") from problem
        else:
            tell(f"Left out: {problem}")
    if not usable:
        raise AudioError(f"Not one of the {len(clips)} clips could be used; see what was said of each.")


def open_listener(predictor: Predictor, **options: Any) -> Callable[[Sequence[Clip]], Iterator[NDArray[np.float64]]]:
    """Load the encoders of a run once; what is returned yields what its heads say of each clip.

    Args:
        predictor: The run.
        options: device, sources, max_hours, rescale and tell, as `stream_predictions` has them.

    Raises:
        EncoderError, RunError: as `stream_predictions`; when it is called AudioError, at the first clip that cannot be
            used.
    """
    parts = [_Part(predictor, heads, **options) for heads in group_by_encoder(predictor)]

    def listen(clips: Sequence[Clip]) -> Iterator[NDArray[np.float64]]:
        for found in zip(*(part.score(clips) for part in parts), strict=True):
            outputs = [one for one in found if not isinstance(one, AudioError)]
            if problem := next((one for one in found if isinstance(one, AudioError)), None):
                raise problem
            yield np.sum(outputs, axis=0)

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
            # One file is as likely as thousands, and should have all threads.
            threads=torch.get_num_threads(),
            max_hours=max_hours,
            rescale=rescale or bool(options.get("rescale")),
            digests=False,
        )

    def score(self, clips: Sequence[Clip]) -> Iterator[NDArray[np.float64] | AudioError]:
        """Yield what the heads say of each clip, times their share; or why it cannot be used."""
        pieces: deque[list[AudioSegment | AudioError]] = deque()
        whole = not (self.on_frames or self.config.windows is None)

        def wanted() -> Iterator[AudioSegment | AudioError]:
            for clip in clips:
                pieces.append(
                    _cut(
                        clip,
                        self.encoder.sampling_rate,
                        math.inf if whole else LONGEST_PIECE_SECONDS,
                        self.config.max_hours,
                    )
                )
                yield from pieces[-1]

        stream = embed_stream(self.config, wanted(), self.tell)
        for first in stream:
            own = pieces.popleft()
            yield self._average(own, [first, *(next(stream) for _ in own[1:])])

    def _average(
        self, pieces: Sequence[AudioSegment | AudioError], found: Iterable[UtteranceEmbedding | AudioError]
    ) -> NDArray[np.float64] | AudioError:
        total, samples = np.zeros(1), 0
        problem = None
        for piece, rows in zip(pieces, found, strict=True):
            if isinstance(rows, AudioError):
                problem = problem or rows
            elif isinstance(piece, AudioSegment):
                total = total + piece.samples * self._ask(rows)
                samples += piece.samples
        return problem if problem is not None else self.share * total / samples

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


def _cut(clip: Clip, rate: int, most_seconds: float, max_hours: float) -> list[AudioSegment | AudioError]:
    """Read a clip's header and cut it into equal pieces of at most so many seconds."""
    try:
        duration = probe_audio(clip.path, most_hours=max_hours).duration_seconds
        stamp = file_stamp(clip.path)
    except AudioError as error:
        return [error]
    except OSError as error:
        return [AudioError(f"Cannot read the audio file {str(clip.path)!r} ({error.strerror}).")]
    start = clip.start or 0.0
    end = duration if clip.end is None else min(clip.end, duration)
    if end - start > max_hours * 3600:
        return [too_long(f"The audio in {str(clip.path)!r}", end - start, max_hours)]
    count = max(1, math.ceil((end - start) / most_seconds))
    edges = [clip.start, *(start + (end - start) * number / count for number in range(1, count)), clip.end]
    samples = max(1, round((end - start) / count * rate))
    return [AudioSegment("", str(clip.path), begin, until, samples, *stamp) for begin, until in pairwise(edges)]


def _prediction(clip: Clip, predictor: Predictor, outputs: NDArray[np.float64]) -> Prediction:
    if not np.isfinite(outputs).all():
        raise RunError(
            f"What the heads of {predictor.folder} say of {clip.name!r} is no number: their weights are damaged; fit "
            "or export them again."
        )
    told = {name: float(value) for name, value in zip(predictor.names, outputs, strict=True)}
    if predictor.rates:
        return Prediction(path=clip.name, dimensions=told, start=clip.start, end=clip.end)
    label = predictor.names[int(outputs.argmax())]
    return Prediction(path=clip.name, label=label, probabilities=told, start=clip.start, end=clip.end)


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
