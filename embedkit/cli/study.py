"""The command `embedkit study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli.completion import complete_encoders, complete_heads, complete_losses
from embedkit.cli.fit import read_fit_options
from embedkit.cli.options import Device, Threads, Where, choose_options, split_texts
from embedkit.cli.output import show, tell, writes_bold
from embedkit.config import read_config
from embedkit.corpora.opening import DEMO
from embedkit.errors import FitError


def study(
    corpora: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CORPUS", help="Corpora, as for `embedkit extract`. [default: embedkit.toml's corpus, else demo]"
        ),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", autocompletion=complete_encoders, help="Encoders, as for `embedkit extract`; repeatable."
        ),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            autocompletion=complete_heads,
            help="Heads, as for `embedkit fit`. [default: each encoder's usual head]",
        ),
    ] = None,
    loss: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", autocompletion=complete_losses, help="Losses, as for `embedkit fit`. [default: ce]"
        ),
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(metavar="MODE", help="cached, frozen, finetune, lora, as for `embedkit fit`. [default: cached]"),
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option(metavar="FOLDS", help="session, speaker, split, random or a column. [default: as for fit]"),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How often everything is repeated. [default: 3]")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option(metavar="A,B,C", help="The labels that take part. [default: each corpus's task]")
    ] = None,
    targets: Annotated[
        list[str] | None, typer.Option(metavar="A,B,C", help="Columns of numbers to predict in place of classes.")
    ] = None,
    where: Where = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Most epochs of a training. [default: 30]")
    ] = None,
    device: Device = None,
    threads: Threads = None,
    runs: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder to keep the runs in. [default: runs]")
    ] = None,
) -> None:
    """Run corpora by encoders by heads by losses by modes, and show the table.

    Examples:

        embedkit study --encoder mfcc,logmel --loss all
        embedkit study path/to/emodb path/to/ravdess --encoder hubert --loss ce,ccc
        embedkit study path/to/emodb --encoder hubert --mode cached,finetune

    It says first what there is to do and how long that takes, and does only what is missing: the same command goes on
    after an interruption. What fails is told, the rest goes on, and the exit code is 1. All other options of extract
    and fit are set in their sections of embedkit.toml.
    """
    given = locals().copy()
    config = read_config()
    options = choose_options("study", config, given)
    corpora = options.pop("corpora", None) or ([config.corpus] if config.corpus else [])
    extraction, fitting = config.options("extract"), config.options("fit")
    encoders = split_texts(options.pop("encoder", extraction.get("encoder", [])))
    modes = split_texts(options.pop("mode", [fitting.get("mode", "cached")]))
    if not encoders:
        raise typer.BadParameter(
            "name at least one, as in --encoder mfcc (see embedkit list encoders).", param_hint="'--encoder'"
        )
    if not corpora:
        tell("No corpus given and none named in embedkit.toml: taking the demo corpus, synthetic speech to try out.")
    own = {name: value for name, value in fitting.items() if name not in ("mode", "encoder")}
    fit = read_fit_options({**own, **options})
    shared = {name: options[name] for name in ("device", "threads") if name in options}
    from embedkit.workflows.study import run_study

    result = run_study(
        corpora or [DEMO],
        encoders,
        heads=fit.pop("heads", None),
        losses=fit.pop("losses", None),
        modes=modes,
        extract={name: value for name, value in extraction.items() if name not in ("encoder", "out")} | shared,
        runs=fit.pop("runs", "runs"),
        fit=fit,
        sources=config.encoders,
        progress=None,
        tell=tell,
    )
    show(result.table.render(bold=writes_bold()))
    if result.missing:
        what = "; ".join(f"{part} ({why.rstrip('.')})" for part, why in result.missing.items())
        raise FitError(f"The study lacks {what}; give what is missing, and the same command does the rest.")
