"""The command `embedkit fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from embedkit.cli.options import AllowCode, choose_options, require_word_for, takes_options
from embedkit.cli.output import show, tell
from embedkit.config import read_config
from embedkit.corpora.opening import DEMO
from embedkit.options.fit import FitOptions


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
