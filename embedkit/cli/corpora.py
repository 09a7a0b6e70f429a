"""The commands on a corpus: `embedkit check` and `manifest`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from embedkit.cli.options import AllowCode, CorpusArgument, MaxHours, Where, require_word_for
from embedkit.cli.output import show, tell, writes_bold
from embedkit.config import read_config
from embedkit.options.option import read_pairs, split_texts
from embedkit.received import MOST_HOURS


def check(
    corpus: CorpusArgument = None,
    folds: Annotated[
        str | None,
        typer.Option(metavar="FOLDS", help="The folds of the study, as for fit. [default: fit's]"),
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option(metavar="A,B,C", help="The labels that take part. [default: fit's]")
    ] = None,
    merge: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=LABEL", help="Count a label as another, patterns as in fit; repeatable. [default: fit's]"
        ),
    ] = None,
    where: Where = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads that decode audio. [default: up to 4]")
    ] = None,
    format: Annotated[Literal["text", "json"], typer.Option(metavar="FORMAT", help="text or json.")] = "text",
    max_hours: MaxHours = None,
    allow_code: AllowCode = None,
) -> None:
    """Look at a corpus before a study: labels, speakers, folds and all audio.

    Examples:

        embedkit check path/to/EmoDB
        embedkit check corpus.csv --folds split --format json

    Exits with 1 where something would make results invalid: audio that cannot be read, the same audio under different
    labels or speakers, speakers in several parts of a given split, or folds that cannot be trained.
    """
    import json

    from embedkit.checking.table import render_check
    from embedkit.workflows.check import check_corpus

    config = read_config()
    study = config.options("fit")
    require_word_for({"corpus": corpus or config.corpus}, allow_code)
    found = check_corpus(
        corpus or config.corpus or "demo",
        folds=folds or study.get("folds"),
        classes=split_texts(classes or study.get("classes") or []) or None,
        merge=(read_pairs(merge, "--merge") if merge else study.get("merge")) or None,
        where=where or study.get("where", ()),
        workers=workers,
        max_hours=MOST_HOURS if max_hours is None else max_hours,
        progress=None,
    )
    if format == "json":
        show(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        show(render_check(found, bold=writes_bold()))
    if not found.ok:
        raise typer.Exit(1)


def manifest(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The corpus's folder, searched to the bottom.")],
    pattern: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help="The path of a file below the folder, with {label}, {speaker} and other columns in braces; * is any "
            "text, ** any folders.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The CSV file. [default: the folder's name, in the current folder]"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    unknown_speakers: Annotated[
        bool, typer.Option("--unknown-speakers", help="Let the pattern leave out who is speaking.")
    ] = False,
) -> None:
    """Write the manifest of a corpus whose folders and file names say what is in it.

    Examples:

        embedkit manifest recordings --pattern '{label}/{speaker}_*.wav'
        embedkit manifest mine --pattern '{session}/**/{speaker}-{label}.*'

    A field holds no slash and ends where the rest of the pattern first fits. Shows labels, speakers and other columns,
    and the audio files that were left; the manifest goes to extract and check.
    """
    from embedkit.workflows.manifest import write_manifest

    show(write_manifest(folder, pattern, out=out, overwrite=overwrite, unknown_speakers=unknown_speakers, tell=tell))
