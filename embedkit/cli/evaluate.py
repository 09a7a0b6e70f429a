"""The command `embedkit evaluate`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from embedkit.cli.options import AllowCode, choose_options, require_word_for, takes_options
from embedkit.cli.output import show, tell
from embedkit.config import read_config
from embedkit.corpora.opening import DEMO
from embedkit.options.evaluate import EvaluateOptions


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
