"""The command `embedkit extract`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from embedkit.cli.completion import complete_encoders
from embedkit.cli.options import Device, Threads, Where, choose_options
from embedkit.cli.output import tell
from embedkit.config import read_config


def extract(
    corpus: Annotated[
        str | None,
        typer.Argument(
            metavar="CORPUS",
            help="A corpus folder, a CSV manifest, demo, or module:function:FOLDER of your own. "
            "[default: embedkit.toml's, else demo]",
        ),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            autocompletion=complete_encoders,
            help="A name of `embedkit list encoders`, a Hugging Face id, a local folder, module:Class of your own, or "
            "several joined by +; repeatable: a store each.",
        ),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(metavar="LAYERS", help="all, last, a number, or a range such as 4-9. [default: all]")
    ] = None,
    level: Annotated[
        Literal["utterance", "frame", "both"] | None,
        typer.Option(
            metavar="LEVEL",
            help="utterance: mean and standard deviation over each utterance's frames; frame or both: the frames as "
            "well. [default: what the encoder's usual head needs]",
        ),
    ] = None,
    frame_dtype: Annotated[
        Literal["float16", "float32"] | None,
        typer.Option(
            metavar="TYPE", help="Type of kept frames: float16 or float32. [default: float16 for transformers]"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The store to write. [default: embeddings/CORPUS/ENCODER.h5]"),
    ] = None,
    where: Where = None,
    device: Device = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="WORD", help="fp32 (the reference), bf16, fp16, or auto: what is fast and safe. [default: fp32]"
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS",
            help="Whisper only: seconds that every clip is padded to, or clip: as long as it is. [default: clip]",
        ),
    ] = None,
    batch_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Audio in a batch; on a CPU each thread may have its own. [default: 12 on a CPU, 320 on a GPU]",
        ),
    ] = None,
    shard_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Audio in a shard: what a kill may cost, beside the batches under way, and a Ray worker's task. "
            "[default: 300 on a CPU, 3000 on a GPU]",
        ),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Encode longer clips in overlapping windows of this length. [default: what the encoder takes]",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Threads that read audio. [default: up to 4]")
    ] = None,
    threads: Threads = None,
    engine: Annotated[
        Literal["local", "ray"] | None,
        typer.Option(
            metavar="ENGINE",
            help="local: encode in this process; ray: on the Ray cluster of RAY_ADDRESS. [default: local]",
        ),
    ] = None,
    max_file_gb: Annotated[
        float | None,
        typer.Option(
            metavar="GB", help="Keep a larger store in files of at most this many gigabytes. [default: one file]"
        ),
    ] = None,
    on_error: Annotated[
        Literal["fail", "skip"] | None,
        typer.Option(
            metavar="WORD",
            help="fail: stop at the first audio that cannot be used; skip: list it and go on. [default: fail]",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Take only so many utterances, evenly spread.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a store that is damaged, or made with other options.")
    ] = False,
) -> None:
    """Run encoders over a corpus once and keep the embeddings.

    Examples:

        embedkit extract path/to/IEMOCAP --encoder hubert --encoder wav2vec2
        embedkit extract --encoder mfcc --where gender=female
        embedkit extract corpus.csv --encoder path/to/checkpoint --layers 4-9

    Done work is not done again: the same command continues a stopped extraction.
    """
    given = locals().copy()
    config = read_config()
    options = choose_options("extract", config, given)
    encoders = options.pop("encoder", [])
    if not encoders:
        raise typer.BadParameter(
            "name at least one, as in --encoder mfcc (see embedkit list encoders).", param_hint="'--encoder'"
        )
    if len(encoders) > 1 and "out" in options:
        raise typer.BadParameter("give one encoder with --out, a store holds one.", param_hint="'--out'")
    corpus = corpus or config.corpus
    if corpus is None:
        tell("No corpus given and none named in embedkit.toml: taking the demo corpus, synthetic speech to try out.")
    from embedkit.encoders.run_encoders import expand_runs
    from embedkit.workflows.extract import extract_embeddings

    for name in expand_runs(encoders, tell):
        store = extract_embeddings(
            corpus or "demo", encoder=name, overwrite=overwrite, sources=config.encoders, tell=tell, **options
        )
        typer.echo(store.path)
