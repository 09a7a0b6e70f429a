"""The command `embedkit study`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from embedkit.cli.options import AllowCode, choose_options, require_word_for, takes_options
from embedkit.cli.output import show, tell, writes_bold
from embedkit.config import read_config
from embedkit.corpora.opening import DEMO
from embedkit.errors import FitError
from embedkit.options.option import declared
from embedkit.options.study import StudyOptions


@takes_options(StudyOptions)
def study(
    corpora: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CORPUS", help="Corpora, as for `embedkit extract`. [default: embedkit.toml's corpus, else demo]"
        ),
    ] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and roughly how long it takes; do nothing.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the report in a browser while the study runs, on this machine alone.")
    ] = False,
    allow_code: AllowCode = None,
    **given: Any,
) -> None:
    """Run corpora by encoders by heads by losses by modes, and show the table.

    Examples:

        embedkit study --encoder mfcc,logmel --loss all
        embedkit study path/to/emodb path/to/ravdess --encoder hubert --loss ce,ccc
        embedkit study path/to/emodb --encoder hubert --mode cached,finetune
        embedkit study path/to/emodb path/to/ravdess --encoder hubert --cross
        embedkit study --encoder mfcc --loss all --dry-run
        embedkit study --encoder mfcc --loss all --watch

    It first says what is missing and how long that takes, then does only that: the same command continues after an
    interruption. What fails is reported, the rest goes on, and the exit code is 1. All other options of extract are set
    in its section of embedkit.toml.
    """
    config = read_config()
    extraction = config.options("extract")
    own = {name: value for name, (value, _) in config.settings("study").items()}
    options = {"encoder": (), **own, **choose_options(StudyOptions, "study", config, given)}
    corpora = corpora or list(options.pop("corpora", ())) or ([config.corpus] if config.corpus else [])
    encoders = options.pop("encoder")
    if not encoders:
        raise typer.BadParameter(
            "name at least one, as in --encoder mfcc (see embedkit list encoders).", param_hint="'--encoder'"
        )
    require_word_for({**options, "encoder": encoders, "corpus": corpora}, allow_code)
    if not corpora:
        tell("No corpus is given and embedkit.toml names none: the demo corpus is used, synthetic speech to try out.")
    for name in ("encoder", "out", "noise", "noise_snr"):
        extraction.pop(name, None)
    from embedkit.workflows.study import run_study
    from embedkit.workflows.watch import watch_runs

    runs = Path(options.get("runs", declared(StudyOptions)["runs"].default))
    with watch_runs(runs) if watch else nullcontext() as url:
        if url:
            tell(f"The report, as far as it is: {url}")
        result = run_study(
            corpora or [DEMO],
            encoders,
            extract=extraction,
            sources=config.encoders,
            dry_run=dry_run,
            progress=None,
            tell=tell,
            **options,
        )
    if dry_run:
        show("\n".join(result.plan))
    else:
        show(result.table.render(bold=writes_bold()))
    if result.missing:
        what = "; ".join(f"{part} ({why.rstrip('.')})" for part, why in result.missing.items())
        raise FitError(f"The study lacks {what}; give what is missing, and the same command does the rest.")
