"""The command `embedkit export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from embedkit.cli.options import AllowCode
from embedkit.cli.output import show, tell
from embedkit.config import read_config


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
