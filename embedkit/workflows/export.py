"""Export: a run as one ONNX file, or as a folder for transformers and `embedkit predict`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

import embedkit
from embedkit.encoders.base import Encoder
from embedkit.encoders.precision import true_fp32
from embedkit.errors import ConfigError, RunError
from embedkit.export.checking import Clip, Difference, choose_clips, compare, require_equal
from embedkit.export.clip import ClipHeads, FrameHeads, encode_clip
from embedkit.export.encoder import find_encoder, group_by_encoder, has_network, parts_of, without_places
from embedkit.export.ensemble import Ensemble
from embedkit.export.folder import write_folder
from embedkit.export.graphs import build_graph
from embedkit.export.onnx import require_onnx, run_onnx, write_onnx
from embedkit.export.predictor import DESCRIPTION_FILE, Predictor, open_predictor
from embedkit.export.push import push_folder, require_repository
from embedkit.export.recurrent import use_onnx_lstm
from embedkit.progress import Tell
from embedkit.reporting.outcome_summary import summarise_results
from embedkit.system import replace as move
from embedkit.system import sync_folder
from embedkit.training.runs import RunRecord, read_run
from embedkit.writing import new_folder, new_temporary, sync_tree

Format = Literal["onnx", "folder", "both"]
FORMATS = ("onnx", "folder", "both")
ONNX_FILE = "model.onnx"
TOLERANCE = 1e-4
_OTHERWISE = "choose another --out"


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was written.

    Attributes:
        path: The ONNX file, or the folder.
        differences: From PyTorch, the largest one on each clip: of a probability, or of a rating in standard deviations
            of the ratings trained on.
        pushed: The repository that it was pushed to, at the commit; None where it was not.
    """

    path: Path
    differences: tuple[Difference, ...]
    pushed: str | None = None

    @property
    def largest_difference(self) -> float:
        """The largest difference on any clip."""
        return max(one.difference for one in self.differences)


def export_run(
    run: str | os.PathLike[str] | RunRecord,
    *,
    out: str | os.PathLike[str] | None = None,
    format: Format | None = None,
    fold: str | None = None,
    seed: int | None = None,
    check: Sequence[str | os.PathLike[str]] = (),
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
    push: str | None = None,
    public: bool = False,
    sources: Mapping[str, str] | None = None,
    allow_code: str | Sequence[str] = (),
    tell: Tell = lambda _: None,
) -> Export:
    """Write a run's encoder and heads for use elsewhere, and compare what was written with PyTorch.

    As in `predict`, the outputs are the mean over the heads of all folds and seeds, unless one is named.

    Args:
        run: A run's folder, or its record; an exported folder as well.
        out: The file or the folder to write; by default named after the run, in the current folder.
        format: "onnx": one file, a waveform in and probabilities (or ratings) out; without the encoder where that is
            no network. "folder": the encoder as transformers writes it, beside the heads in safetensors, with a model
            card; `predict` takes it as a run. "both": such a folder with the ONNX file in it. None for "folder" where
            it is pushed, else for "onnx".
        fold: Take only the heads of this fold.
        seed: Take only the heads of this seed.
        check: Recordings to compare on; by default some of the run's corpus.
        tolerance: A larger difference is an error, and nothing is kept.
        overwrite: Replace what was exported before.
        push: A repository on the Hugging Face Hub (`org/name`) that the folder is pushed to as well.
        public: Whether everybody may read it there.
        sources: Where encoder names lead, if elsewhere than in the run (`[encoders]` of embedkit.toml).
        allow_code: Packages of your own that the run may name parts of; see docs/security.md.
        tell: Receives what is worth saying.

    Raises:
        CodeError: the run names code that is not allowed.
        RunError: no run, one that is damaged or cannot be exported, too large a difference, no place to write, or a
            Hub that does not take it; nothing is kept then, so that the same command can be given again.
        ConfigError: an unknown format, or packages that are missing.
        EncoderError: an encoder that is no longer available, or cannot be written as ONNX.
        AudioError: a recording to compare on that cannot be used.
    """
    format = format or ("onnx" if push is None else "folder")
    if format not in FORMATS:
        raise ConfigError(f"The format is {format!r}, expected one of {', '.join(FORMATS)}.")
    if not tolerance > 0:
        raise ConfigError(f"The tolerance is {tolerance}, expected a number above 0.")
    if public and push is None:
        raise ConfigError("--public says who may read what is pushed, and nothing is; give --push ORG/NAME as well.")
    if push is not None and format == "onnx":
        raise ConfigError("--push takes folders, and the format is onnx; choose --format folder or both.")
    if format != "folder":
        require_onnx()
    if push is not None:
        require_repository(push, public=public)
    source = run if isinstance(run, RunRecord) else Path(run)
    predictor = open_predictor(source, fold=fold, seed=seed, allow_code=allow_code, tell=tell)
    groups = group_by_encoder(predictor)
    if len(groups) > 1:
        folds = ", ".join(dict.fromkeys(head.fold for head in predictor.heads))
        seeds = ", ".join(dict.fromkeys(str(head.seed) for head in predictor.heads))
        raise RunError(
            f"The run {predictor.folder} has {len(groups)} encoders, and one can be exported; name it with --fold "
            f"({folds}) and --seed ({seeds})."
        )
    target = Path(out) if out is not None else Path(predictor.title + (".onnx" if format == "onnx" else ""))
    with _writing(target, is_folder=format != "onnx", overwrite=overwrite) as partial:
        encoder = find_encoder(predictor, groups[0], device="cpu", precision=_precision(predictor), sources=sources)
        _tell_of(predictor, format, tell)
        clips = choose_clips(predictor, list(map(Path, check)), encoder.largest_input)
        job = _Job(predictor, encoder, tolerance, *clips)
        differences: list[Difference] = []
        if format != "onnx":
            write_folder(predictor, encoder, partial, _find_results(source, predictor), place=push or target.name)
            differences += job.check_folder(partial)
        if format != "folder":
            differences += job.write_onnx(partial / (ONNX_FILE if format == "both" else target.name))
        found = Export(path=target, differences=tuple(differences))
        tell(_report(predictor, found, job.described, tolerance))
        if push is not None:
            tell(f"Pushing {target} to {push}, which {'everybody' if public else 'nobody but its owners'} may read.")
            found = replace(found, pushed=push_folder(partial, push, public=public))
    return found


def _find_results(source: Path | RunRecord, predictor: Predictor) -> Mapping[str, Any]:
    """Return what the heads scored in their run, as far as an exported folder still knows it."""
    if predictor.exported:
        results: Mapping[str, Any] = predictor.config.get("results") or {}
        return results
    return summarise_results(source if isinstance(source, RunRecord) else read_run(source))


@dataclass(frozen=True)
class _Job:
    """One export: its parts, and the clips that it is compared on."""

    predictor: Predictor
    encoder: Encoder
    tolerance: float
    clips: list[Clip]
    described: str

    def write_onnx(self, path: Path) -> list[Difference]:
        """Write the ONNX file and compare it with embedkit's own encoder and the heads in PyTorch."""
        waves = has_network(self.predictor.identity)
        heads = FrameHeads(self.predictor, Ensemble(self.predictor)).eval()
        with torch.inference_mode(), true_fp32():
            frames = [encode_clip(self.encoder, clip.waveform) for clip in self.clips]
            expected = [heads(own) for own in frames]
        module: Any = heads
        if waves:
            module = ClipHeads(build_graph(self.encoder), self.encoder.smallest_input, heads).eval()
        use_onnx_lstm(module)
        inputs = [clip.waveform for clip in self.clips] if waves else [own.clone() for own in frames]
        write_onnx(
            module,
            max(inputs, key=len),
            path,
            names=("waveform" if waves else "frames", "ratings" if self.predictor.rates else "probabilities"),
            dynamic={0: torch.export.Dim("samples" if waves else "frames", min=2)},
            metadata=_describe(self.predictor, self.encoder),
        )
        found = run_onnx(path, [values.numpy() for values in inputs])
        return self._compare("The ONNX file", expected, found)

    def check_folder(self, folder: Path) -> list[Difference]:
        """Compare the folder, opened as anyone would, with the run."""
        again = open_predictor(folder)
        encoder = find_encoder(again, again.heads, device="cpu", precision=_precision(again))
        scores = []
        with torch.inference_mode(), true_fp32():
            for predictor, own in ((self.predictor, self.encoder), (again, encoder)):
                heads = FrameHeads(predictor, Ensemble(predictor)).eval()
                scores.append([heads(encode_clip(own, clip.waveform)) for clip in self.clips])
        return self._compare("The folder", scores[0], [values.numpy() for values in scores[1]])

    def _compare(self, what: str, expected: Sequence[Any], found: Sequence[Any]) -> list[Difference]:
        differences = compare(self.predictor, self.clips, expected, found)
        require_equal(what, differences, self.tolerance)
        return differences


def _tell_of(predictor: Predictor, format: Format, tell: Tell) -> None:
    identity = predictor.identity
    if not has_network(identity):
        tell(
            f"The encoder {identity['name']!r} is no network: the heads alone are exported, for its frames "
            "[frames, layers, dimensions]."
        )
    precisions = {str(part["precision"]) for part in parts_of(identity)} - {"fp32"}
    if precisions and format != "folder":
        tell(f"The run's encoder computed in {'+'.join(sorted(precisions))}; the ONNX file computes in fp32.")


def _precision(predictor: Predictor) -> str | None:
    """What is compared computes in fp32; features that are computed from the signal know nothing else."""
    return "fp32" if has_network(predictor.identity) else None


def _describe(predictor: Predictor, encoder: Encoder) -> dict[str, str]:
    """Write what a user of the ONNX file must know, as texts; lists and objects in JSON."""
    rate, heads = encoder.sampling_rate, predictor.heads
    largest = encoder.largest_input
    waveform = f"waveform: one clip, mono, float32 [samples] at {rate} Hz, full scale from -1 to 1"
    frames = f"frames: one clip's {encoder.name}, float32 [frames, {len(encoder.layers)}, {encoder.dimensions}]"
    ratings = "ratings: float32 [dimensions], in the unit of the corpus"
    described: dict[str, Any] = {
        "producer": f"embedkit {embedkit.__version__}",
        "input": waveform if has_network(predictor.identity) else frames,
        "output": ratings if predictor.rates else "probabilities: float32 [classes], adding up to 1",
        "labels": predictor.names,
        "sampling_rate": rate,
        "smallest_input_samples": encoder.smallest_input,
        "largest_input_samples": "any" if largest is None else largest,
        "encoder": without_places({name: value for name, value in encoder.identity().items() if name != "trained_on"}),
        "corpus": predictor.config["corpus"],
        "heads": list(dict.fromkeys(head.spec for head in heads)),
        "loss": predictor.config["loss_spec"],
        "folds": list(dict.fromkeys(head.fold for head in heads)),
        "seeds": list(dict.fromkeys(head.seed for head in heads)),
        "averaged_heads": len(heads),
        "run": predictor.folder.name,
    }
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in described.items()
    }


def _report(predictor: Predictor, export: Export, described: str, tolerance: float) -> str:
    seconds = [one.seconds for one in export.differences]
    unit = "rating, in standard deviations," if predictor.rates else "probability"
    return (
        f"Compared with PyTorch on {described}, {min(seconds):.2f} to {max(seconds):.2f} s: the largest difference "
        f"of a {unit} is {export.largest_difference:.1e} (allowed: {tolerance:g}). "
        f"Heads averaged: {len(predictor.heads)}."
    )


@contextmanager
def _writing(target: Path, *, is_folder: bool, overwrite: bool) -> Iterator[Path]:
    """Give a folder beside the target to write in; what is in it takes the target's place once all went well."""
    _require_free(target, is_folder=is_folder, overwrite=overwrite)
    if is_folder:
        with new_folder(target, otherwise=_OTHERWISE) as partial:
            yield partial
        return
    with new_temporary(target, otherwise=_OTHERWISE) as partial:
        yield partial
        sync_tree(partial)
        # The file itself comes last: a reader who finds it finds its weights.
        for path in sorted(partial.iterdir(), key=lambda path: path.name == target.name):
            move(path, target.with_name(path.name))
        sync_folder(target.parent)


def _require_free(target: Path, *, is_folder: bool, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if is_folder and not target.is_dir():
        raise RunError(f"{target} is a file, expected a folder to write or none; choose another --out.")
    if not is_folder and not target.is_file():
        raise RunError(f"{target} is a folder, expected the path of an .onnx file; choose another --out.")
    ours = not is_folder or (target / DESCRIPTION_FILE).is_file() or not any(target.iterdir())
    if not ours:
        raise RunError(f"{target} holds something else than an exported run; choose another --out.")
    if not overwrite and (not is_folder or any(target.iterdir())):
        raise RunError(f"{target} is there already; give --overwrite to replace it, or choose another --out.")
