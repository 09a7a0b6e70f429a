"""The commands on a store: `embedkit inspect`, `verify` and `convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from embedkit.cli.output import show
from embedkit.errors import ConfigError


def inspect(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A store, as `embedkit extract` prints it.")],
) -> None:
    """Show what is in a store.

    Examples:

        embedkit inspect embeddings/demo/mfcc.h5

    No embeddings are read for it.
    """
    from embedkit.workflows.inspect import describe_store

    show(str(describe_store(store)))


def verify(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A store, as `embedkit extract` prints it.")],
    audio: Annotated[bool, typer.Option("--audio", help="Compare the audio files with their digests, too.")] = False,
) -> None:
    """Read a whole store, recompute its digests, and name what is damaged.

    Examples:

        embedkit verify embeddings/demo/mfcc.h5 --audio

    Exits with 1 where something is damaged, or with --audio where a file has changed. `extract` and `fit` do the same
    by themselves to stores so small that it takes no time.
    """
    from embedkit.workflows.verify import verify_store

    found = verify_store(store, audio=audio, progress=None)
    show(str(found))
    if not found.ok:
        raise typer.Exit(1)


def convert(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A store, as `embedkit extract` prints it.")],
    to: Annotated[Literal["npy", "csv", "parquet"], typer.Option(metavar="FORM", help="npy, csv or parquet.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The file. [default: the store's name with another ending, beside it]"),
    ] = None,
    layer: Annotated[
        str, typer.Option(metavar="LAYER", help="A layer's number, average (over those kept) or all.")
    ] = "average",
    statistic: Annotated[
        Literal["mean", "std"], typer.Option(metavar="WORD", help="mean or std, over an utterance's frames.")
    ] = "mean",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> None:
    """Write a store's columns and embeddings in a form that other programs read.

    Examples:

        embedkit convert embeddings/demo/mfcc.h5 --to parquet
        embedkit convert embeddings/demo/mfcc.h5 --to npy --layer all

    Rows are utterances: the store's columns, then mean_0, mean_1, ... The array of npy has its columns in a CSV file
    beside it. Read CSV with dtype=str for names: pandas would take the speaker 03 for 3.
    """
    from embedkit.workflows.convert import convert_store

    if layer not in ("average", "all") and not layer.isdecimal():
        raise ConfigError(f"--layer is {layer!r}, expected a layer's number, average or all.")
    chosen = int(layer) if layer.isdecimal() else layer
    for path in convert_store(store, to, out=out, layer=chosen, statistic=statistic, overwrite=overwrite):  # type: ignore[arg-type]
        show(path)
