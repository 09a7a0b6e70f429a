"""Predictions in a file: kept clip by clip beside it, and written together once all are known."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal

import embedkit
from embedkit.corpora.clips import Clip
from embedkit.errors import AudioError, ConfigError
from embedkit.options.option import declared
from embedkit.options.predict import CuttingOptions
from embedkit.progress import Progress, Tell
from embedkit.received import parse_json
from embedkit.workflows.cut_clips import cut_clips
from embedkit.workflows.predict import Format, OnError, Prediction, render_predictions, stream_predictions
from embedkit.workflows.predict_database import require_place, write_database
from embedkit.workflows.published import find_run
from embedkit.writing import new_file, open_log, told

_OTHERWISE = "name another file"
_LONGEST_LINE = 1 << 20
_OURS = b'{"files": '
_KEPT = ("label", "probabilities", "dimensions")


def write_predictions(
    run: Path,
    clips: Sequence[Clip],
    out: Path,
    format: Format | Literal["audformat"],
    *,
    on_error: OnError = "fail",
    report: Progress | None = None,
    tell: Tell = lambda _: None,
    **options: Any,
) -> None:
    """Predict clips into a file; one that was stopped goes on, and what is there stays until all is known.

    Until then each prediction is added to `<out>.unfinished`. It is used again for files that have not changed, by the
    same run with the same options.

    Args:
        run: A run's folder, an exported one, or what one is called on the Hugging Face Hub.
        clips: What is predicted.
        out: The file; a link of that name is replaced, not followed.
        format: As for `render_predictions`; or "audformat" for a new folder (see `write_database`).
        on_error, tell: As for `stream_predictions`, which takes the other options as well.
        report: Receives how many clips are done, and how many there are.

    Raises:
        ConfigError: a file cannot be written.
        EmbedkitError: as `stream_predictions`; what was predicted before is kept.
    """
    if format == "audformat":
        require_place(out)
    run = find_run(run, options.get("sources") or {}, tell) or run
    cutting = CuttingOptions(**{one: options[one] for one in declared(CuttingOptions) if one in options})
    clips = list(cut_clips(clips, cutting, tell))
    keep = out.with_name(f"{out.name}.unfinished")
    with told(out, error=ConfigError, otherwise=_OTHERWISE, part=keep), Kept(keep, _title(run, options)) as kept:
        stream = partial(stream_predictions, run, on_error=on_error, of=len(clips), tell=tell, **options)
        kept.fill(clips, stream, skipping=on_error == "skip", report=report, tell=tell)
        if format == "audformat":
            write_database(kept.read(clips), out, run)
        else:
            _write_lines(
                kept.read(clips), out, format, segments=any((one.start, one.end) != (None, None) for one in clips)
            )
        kept.remove()


def _write_lines(predictions: Iterator[Prediction], out: Path, format: Format, *, segments: bool) -> None:
    with (
        new_file(out, error=ConfigError, otherwise=_OTHERWISE) as part,
        part.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
    ):
        file.writelines(f"{line}\n" for line in render_predictions(predictions, format, segments=segments))


class Kept:
    """A file of JSON lines: what they belong to, then a prediction each."""

    def __init__(self, path: Path, title: str) -> None:
        self.path, self.title = path, title

    def __enter__(self) -> Kept:
        self.file: BinaryIO = open_log(self.path)
        before = self.file.readline(_LONGEST_LINE)
        if before.rstrip(b"\n") != self.title.encode():
            if before:
                if before[: len(_OURS)] != _OURS[: len(before)]:
                    self.file.close()
                    raise ConfigError(
                        f"{str(self.path)!r} is needed for what is not finished, and holds something else; move it, or "
                        f"{_OTHERWISE}."
                    )
                # Whoever may be writing to it keeps the old file.
                self.file.close()
                self.path.unlink()
                self.file = open_log(self.path)
            self._write(self.title)
        elif not _ends_a_line(self.file):
            self._write("")
        return self

    def __exit__(self, *_: object) -> None:
        empty = not self.find()
        self.file.close()
        if empty:
            self.remove()

    def find(self) -> dict[str, int]:
        """Return where the predictions begin, by the clips' names; lines that were cut off count for nothing."""
        found, place = {}, 0
        self.file.seek(0)
        while line := self.file.readline(_LONGEST_LINE):
            if (kept := _read(line)) is not None:
                found[kept["clip"]] = place
            place += len(line)
        return found

    def fill(
        self,
        clips: Sequence[Clip],
        stream: Callable[[Sequence[Clip]], Iterator[Prediction]],
        *,
        skipping: bool,
        report: Progress | None,
        tell: Tell,
    ) -> None:
        """Predict the clips that have no prediction yet, and the windows that are batched with those."""
        known = self.find()
        names = [_name(clip) for clip in clips]
        lacking = {clip.group for clip, name in zip(clips, names, strict=True) if name not in known} - {None}
        missing = [clip for clip, name in zip(clips, names, strict=True) if name not in known or clip.group in lacking]
        done = len(clips) - len(missing)
        if done:
            tell(f"Continuing: {done:,} of {len(clips):,} clips are predicted.")
        if not missing:
            return
        # Where others could be used, those that are left may all be broken.
        with suppress(AudioError) if done and skipping else nullcontext():
            for number, (clip, prediction) in enumerate(_pair(missing, stream(missing)), start=done + 1):
                self.add(clip, prediction)
                if report is not None:
                    report(number, len(clips))

    def add(self, clip: Clip, prediction: Prediction) -> None:
        self._write(json.dumps({"clip": _name(clip)} | {name: getattr(prediction, name) for name in _KEPT}))

    def read(self, clips: Sequence[Clip]) -> Iterator[Prediction]:
        """Yield the predictions of clips in their order, without those that have none."""
        places = self.find()
        for clip in clips:
            if (place := places.get(_name(clip))) is not None:
                self.file.seek(place)
                kept = _read(self.file.readline(_LONGEST_LINE)) or {}
                own = {name: kept[name] for name in _KEPT}
                yield Prediction(path=clip.name, start=clip.start, end=clip.end, **own)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def _write(self, line: str) -> None:
        self.file.write(f"{line}\n".encode())
        self.file.flush()


def _ends_a_line(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _read(line: bytes) -> dict[str, Any] | None:
    """Read a kept prediction; None where the line is none."""
    with suppress(ValueError, LookupError, TypeError, AttributeError):
        kept: dict[str, Any] = parse_json(line)
        shares = [*kept["probabilities"].values(), *kept["dimensions"].values()]
        if isinstance(kept["clip"], str) and isinstance(kept["label"], str) and all(map(_is_number, shares)):
            return kept
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, float)


def _pair(clips: Sequence[Clip], found: Iterator[Prediction]) -> Iterator[tuple[Clip, Prediction]]:
    """Pair predictions with their clips; clips that were left out have none."""
    rest = iter(clips)
    for prediction in found:
        place = (prediction.path, prediction.start, prediction.end)
        yield next(clip for clip in rest if (clip.name, clip.start, clip.end) == place), prediction


def _title(run: Path, options: Mapping[str, Any]) -> str:
    """Write what predictions depend on besides their clips, in one line."""
    files = [path for path in run.iterdir() if path.is_file()] if run.is_dir() else []
    stamps = sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return title_of(stamps, run=os.path.abspath(run), options=options)


def title_of(files: Sequence[Any] = (), **told: Any) -> str:
    """Write in one line what kept predictions belong to."""
    return json.dumps({"files": list(files), **told, "version": embedkit.__version__}, sort_keys=True, default=str)


def _name(clip: Clip) -> str:
    """Name a clip by a digest of its place, its stretch, its size and its time."""
    stamp: tuple[int, ...] = ()
    with suppress(OSError):
        status = clip.path.stat()
        stamp = (status.st_size, status.st_mtime_ns)
    told = json.dumps([os.path.abspath(clip.path), clip.name, clip.start, clip.end, *stamp])
    return hashlib.sha256(told.encode()).hexdigest()
