"""The command `embedkit extract`."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any

import typer

from embedkit.cli.options import AllowCode, choose_options, require_word_for, takes_options
from embedkit.cli.output import show, tell
from embedkit.config import read_config
from embedkit.options.extract import ExtractCommand


@takes_options(ExtractCommand)
def extract(
    corpus: Annotated[
        str | None,
        typer.Argument(
            metavar="CORPUS",
            help="A corpus folder, a CSV manifest, demo, or module:function:FOLDER of your own. "
            "[default: embedkit.toml's, else demo]",
        ),
    ] = None,
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
