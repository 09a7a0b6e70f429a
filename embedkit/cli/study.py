"""The commands that make stores and runs: `embedkit study`, `fit`, `extract` and `evaluate`."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from embedkit.cli.options import AllowCode, CorpusArgument, choose_options, require_word_for, takes_options
from embedkit.cli.output import show, tell, writes_bold
from embedkit.config import read_config
from embedkit.corpora.opening import DEMO
from embedkit.errors import FitError
from embedkit.options.evaluate import EvaluateOptions
from embedkit.options.extract import ExtractCommand
from embedkit.options.fit import FitOptions
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


@takes_options(FitOptions)
def fit(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT",
            help="Embedding files (stores) [default: every one below embeddings/]; with --mode frozen, finetune or "
            "lora corpora.",
        ),
    ] = None,
    *,
    allow_code: AllowCode = None,
    **given: Any,
) -> None:
    """Train heads on stored embeddings under one or several losses.

    Examples:

        embedkit fit --loss all
        embedkit fit --loss ce,focal:gamma=1.5 --loss aam:scale=15,margin=0.2
        embedkit fit --head linear,mlp:hidden=64/256 --seeds 5
        embedkit fit embeddings/iemocap/hubert.h5 --loss ccc --folds speaker
        embedkit fit embeddings/iemocap/hubert.h5 --targets valence,arousal
        embedkit fit embeddings/emodb/hubert.h5 --layers each --loss all
        embedkit fit embeddings/emodb/hubert.h5 embeddings/ravdess/hubert.h5 --pool
        embedkit fit embeddings/emodb/hubert.h5 --noise-snr 20,10,0
        embedkit fit path/to/emodb --encoder hubert --mode finetune --save-encoder

    Learning rate, epoch and all else that is searched are chosen on the training set of each fold; a configuration
    that is already there is not trained again. Options with several values take them repeated or separated by commas.
    """
    config = read_config()
    options = choose_options(FitOptions, "fit", config, given)
    from embedkit.training.processes import is_first
    from embedkit.workflows.fit import find_stores, fit_heads

    cached = options.get("mode", "cached") == "cached"
    if cached and not given["encoder"]:
        # The encoders of embedkit.toml are those of the other modes.
        options.pop("encoder", None)
    found = inputs or (find_stores() if cached else [Path(config.corpus or DEMO)])
    require_word_for({**options, "corpus": [] if cached else found}, allow_code)
    for record in fit_heads(found, sources=config.encoders, progress=None, tell=tell, **options):
        if is_first():
            show(record.folder)


@takes_options(ExtractCommand)
def extract(
    corpus: CorpusArgument = None,
    *,
    allow_code: AllowCode = None,
    **given: Any,
) -> None:
    """Run encoders over a corpus once and keep the embeddings.

    Examples:

        embedkit extract path/to/IEMOCAP --encoder hubert --encoder wav2vec2
        embedkit extract --encoder mfcc --where gender=female
        embedkit extract corpus.csv --encoder path/to/checkpoint --layers 4-9
        embedkit extract corpus.csv --encoder hubert --noise-snr 20,10,0

    Done work is not done again: the same command continues a stopped extraction.
    """
    config = read_config()
    options = choose_options(ExtractCommand, "extract", config, given)
    encoders = options.pop("encoder", ())
    if not encoders:
        raise typer.BadParameter(
            "name at least one, as in --encoder mfcc (see embedkit list encoders).", param_hint="'--encoder'"
        )
    levels = options.pop("noise_snr", ()) or (None,)
    if max(len(encoders), len(levels)) > 1 and "out" in options:
        told = "one encoder" if len(encoders) > 1 else "one level of noise"
        raise typer.BadParameter(f"give {told} with --out, a store holds one.", param_hint="'--out'")
    corpus = corpus or config.corpus
    require_word_for({"corpus": corpus, "encoder": encoders}, allow_code)
    if corpus is None:
        tell("No corpus is given and embedkit.toml names none: the demo corpus is used, synthetic speech to try out.")
    from embedkit.checking.table import ReadingTable
    from embedkit.encoders.run_encoders import expand_runs
    from embedkit.workflows.extract import extract_embeddings

    tables: dict[str, None] = {}

    def tell_or_keep(sentence: str) -> None:
        if isinstance(sentence, ReadingTable):
            tables[sentence] = None
        else:
            tell(sentence)

    for name, snr in product(expand_runs(encoders, tell), levels):
        store = extract_embeddings(
            corpus or "demo",
            encoder=name,
            sources=config.encoders,
            progress=None,
            tell=tell_or_keep,
            noise_snr=snr,
            **options,
        )
        show(store.path)
    for line in "\n".join(tables).splitlines():
        tell(line)


@takes_options(EvaluateOptions)
def evaluate(
    corpus: Annotated[
        str | None,
        typer.Argument(
            metavar="CORPUS", help="As for `embedkit extract`. [default: embedkit.toml's, else the demo corpus]"
        ),
    ] = None,
    *,
    allow_code: AllowCode = None,
    **given: Any,
) -> None:
    """Test a published classifier on a corpus as it is, zero-shot, and keep a run for tables and reports.

    Examples:

        embedkit evaluate path/to/iemocap --model superb/hubert-base-superb-er
        embedkit evaluate path/to/emodb --model my/model --map ang=anger,sad=sadness
        embedkit evaluate path/to/iemocap --model audeering-dim

    A stopped command goes on where it was. Nothing is trained: the run has no heads, no folds and no seeds.
    """
    config = read_config()
    options = choose_options(EvaluateOptions, "evaluate", config, given)
    from embedkit.workflows.evaluate import evaluate_model

    source = corpus or config.corpus or DEMO
    require_word_for({**options, "corpus": [source] if corpus is None else []}, allow_code)
    show(evaluate_model(source, sources=config.encoders, progress=None, tell=tell, **options).folder)
