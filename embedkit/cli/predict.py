"""The commands on one run: `embedkit predict`, `try` and `export`."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from embedkit.cli.options import AllowCode, Device, Fold, Seed, takes_options
from embedkit.cli.output import show, tell
from embedkit.config import read_config
from embedkit.errors import ConfigError
from embedkit.options.option import read_options, read_pairs
from embedkit.options.predict import CuttingOptions

Format: TypeAlias = Literal["text", "csv", "json", "jsonl", "audformat"]

_FORMATS: dict[str, Format] = {".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".txt": "text"}


@takes_options(CuttingOptions)
def predict(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A run's folder, as `embedkit fit` prints it, an exported one, or ORG/NAME of one on the Hugging Face "
            "Hub; or a published classifier: ORG/NAME or its folder.",
        ),
    ],
    audio: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT", help="Audio files, folders of them, or CSV lists (path, perhaps start and end)."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write to a file instead. A stopped command goes on where it was: until all clips are done, they are "
            "kept in FILE.unfinished.",
        ),
    ] = None,
    format: Annotated[
        Format | None,
        typer.Option(
            metavar="FORMAT",
            help="text, csv, json (one list), jsonl (an object a line) or audformat (a new folder as --out). "
            "[default: by --out's ending, else text]",
        ),
    ] = None,
    fold: Fold = None,
    seed: Seed = None,
    map: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=CLASS",
            help="Of a published classifier: which labels count, and as what; repeatable. [default: all]",
        ),
    ] = None,
    device: Device = None,
    on_error: Annotated[
        Literal["fail", "skip"],
        typer.Option(metavar="WORD", help="fail: stop at the first audio that cannot be used; skip: say so and go on."),
    ] = "fail",
    allow_code: AllowCode = None,
    **given: Any,
) -> None:
    """Classify (or rate) audio with a fitted run.

    Examples:

        embedkit predict runs/demo/mfcc/lstm/ce-1a2b3c4d my.wav other.flac
        embedkit predict runs/demo/mfcc/lstm/ce-1a2b3c4d recordings/ --out found.csv
        embedkit predict superb/hubert-base-superb-er my.wav --map ang=anger,hap=joy
        embedkit predict exported/ calls.csv --format jsonl --on-error skip
        embedkit predict exported/ call.wav --window 4 --hop 1 --out call.csv

    Results appear clip by clip, or together in --out. The encoder is found again from the run.
    """
    chosen = _choose_format(out, format)
    from embedkit.corpora.clips import find_clips
    from embedkit.progress import show_progress
    from embedkit.workflows.predict import render_predictions, stream_predictions
    from embedkit.workflows.predict_file import write_predictions

    told = {name: value for name, value in given.items() if value is not None}
    cutting = CuttingOptions(**read_options(CuttingOptions, told, "{flag}"))
    clips = find_clips(audio, tell)
    options: dict[str, Any] = {
        "fold": fold,
        "seed": seed,
        "map": read_pairs(map or [], "--map"),
        "device": device or "auto",
        "on_error": on_error,
        "sources": read_config().encoders,
        "allow_code": allow_code or (),
        "tell": tell,
        **vars(cutting),
    }
    if out is not None:
        with show_progress(None, "predict") as report:
            write_predictions(run, clips, out, chosen, report=report, **options)
        show(out)
        return
    assert chosen != "audformat"
    segments = cutting.cuts or any((clip.start, clip.end) != (None, None) for clip in clips)
    for line in render_predictions(stream_predictions(run, clips, **options), chosen, segments=segments):
        show(line)


def _choose_format(out: Path | None, format: Format | None) -> Format:
    if format == "audformat":
        if out is None:
            raise ConfigError("--format audformat is a folder; name a new one with --out.")
        return format
    if out is not None and ((out.exists() and not out.is_file()) or not out.absolute().parent.is_dir()):
        raise ConfigError(f"--out {str(out)!r} is no file in a folder that is there; name another.")
    if format is not None or out is None:
        return format or "text"
    if out.suffix.lower() not in _FORMATS:
        raise ConfigError(f"--out {str(out)!r} ends in none of {', '.join(_FORMATS)}; name the --format.")
    return _FORMATS[out.suffix.lower()]


def try_run(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A run's folder, as `embedkit fit` prints it, an exported folder, or ORG/NAME of one on the Hugging "
            "Face Hub.",
        ),
    ],
    port: Annotated[int | None, typer.Option(metavar="N", help="Port of the page. [default: any that is free]")] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the page in the browser.")] = False,
    fold: Fold = None,
    seed: Seed = None,
    device: Device = None,
    allow_code: AllowCode = None,
) -> None:
    """Try a run with your voice: a page in the browser, for a microphone or a file.

    Examples:

        embedkit try runs/emodb/hubert/linear/ce-1a2b3c4d
        embedkit try exported/ --port 8765 --no-open

    Shows what the run says of the whole and of windows of two seconds. The page is for this computer alone, and what
    is heard stays on it. Ctrl-C ends it.
    """
    from embedkit.workflows.try_run import open_voice_server

    server = open_voice_server(
        run,
        fold=fold,
        seed=seed,
        device=device or "auto",
        port=port or 0,
        sources=read_config().encoders,
        allow_code=allow_code or (),
        tell=tell,
    )
    with server:
        show(server.address)
        if no_open or not webbrowser.open_new_tab(server.address):
            tell("Open this address in a browser on this computer; Ctrl-C ends.")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            tell("Ended.")


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, as `embedkit fit` prints it.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="The file or folder to write. [default: named after the run, in the current folder]"
        ),
    ] = None,
    format: Annotated[
        Literal["onnx", "folder", "both"] | None,
        typer.Option(
            metavar="FORMAT",
            help="onnx: one file from waveform to probabilities; folder: for transformers and embedkit predict, with a "
            "model card; both: the folder with model.onnx in it. [default: onnx; folder with --push]",
        ),
    ] = None,
    fold: Annotated[
        str | None, typer.Option(metavar="NAME", help="Take only the heads of this fold. [default: the mean of all]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Take only the heads of this seed. [default: the mean of all]")
    ] = None,
    check: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Compare with PyTorch on this recording; repeatable. [default: some of the run's corpus]",
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(metavar="X", help="Keep nothing that differs from PyTorch by more.")
    ] = 1e-4,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what was exported before.")] = False,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="ORG/NAME",
            help="Push the folder to this repository on the Hugging Face Hub, which is made for its owners alone.",
        ),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everybody read what is pushed.")] = False,
    allow_code: AllowCode = None,
) -> None:
    """Write a run's encoder and heads as one ONNX file, or as a folder.

    Examples:

        embedkit export runs/emodb/hubert/linear/ce-1a2b3c4d
        embedkit export runs/emodb/hubert/linear/ce-1a2b3c4d --format folder
        embedkit predict emodb-hubert-linear-ce my.wav
        embedkit export runs/emodb/hubert/linear/ce-1a2b3c4d --push me/emodb-hubert

    What was written is compared with PyTorch on real clips of several lengths.
    """
    from embedkit.workflows.export import export_run

    found = export_run(
        run,
        out=out,
        format=format,
        fold=fold,
        seed=seed,
        check=check or (),
        tolerance=tolerance,
        overwrite=overwrite,
        push=push,
        public=public,
        sources=read_config().encoders,
        allow_code=allow_code or (),
        tell=tell,
    )
    show(found.path)
    if found.pushed:
        show(found.pushed)
