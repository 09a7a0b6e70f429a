"""The command `embedkit predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from embedkit.cli.options import Device
from embedkit.cli.output import show, tell
from embedkit.config import read_config


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, as `embedkit fit` prints it.")],
    audio: Annotated[list[Path], typer.Argument(metavar="AUDIO", help="Audio files.")],
    device: Device = None,
    format: Annotated[
        Literal["text", "csv", "json"], typer.Option(metavar="FORMAT", help="text, csv or json.")
    ] = "text",
) -> None:
    """Classify audio files with a fitted run.

    Examples:

        embedkit predict runs/demo/mfcc/lstm/ce-1a2b3c4d my.wav other.flac

    The encoder is found again from the run.
    """
    from embedkit.workflows.predict import predict_audio, render_predictions

    predictions = predict_audio(run, audio, device=device or "auto", sources=read_config().encoders, tell=tell)
    show(render_predictions(predictions, format))
