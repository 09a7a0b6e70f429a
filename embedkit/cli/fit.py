"""The command `embedkit fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from embedkit.cli.completion import complete_encoders, complete_heads, complete_losses
from embedkit.cli.options import Device, Threads, Where, choose_options, read_merge, read_number, split_texts
from embedkit.cli.output import tell
from embedkit.config import read_config
from embedkit.corpora.opening import DEMO
from embedkit.registry import split_specs

TUNING = {
    "encoder_lr": "encoder_rate",
    "warmup": "warmup",
    "tune_layers": "layers",
    "tune_convolutions": "convolutions",
    "recompute": "recompute",
    "accumulate": "accumulate",
    "augment": "augment",
    "lora_rank": "rank",
    "lora_alpha": "alpha",
    "lora_targets": "targets",
}
"""Options of an encoder that is trained, and what they are called in `Tuning`."""


def fit(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT",
            help="Stores [default: every one below embeddings/]; with --mode frozen, finetune or lora corpora.",
        ),
    ] = None,
    mode: Annotated[
        Literal["cached", "frozen", "finetune", "lora"] | None,
        typer.Option(
            metavar="MODE",
            help="cached: heads on stores. frozen: the encoder runs in every epoch. finetune: it is trained with the "
            "head. lora: adapters in it are. [default: cached]",
        ),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            autocompletion=complete_encoders,
            help="What runs in the modes other than cached, as for `embedkit extract`.",
        ),
    ] = None,
    loss: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            autocompletion=complete_losses,
            help="ce, label-smoothing, focal, aam, ccc, or all for these; others of `embedkit list losses` by name, or "
            "module:Name of your own; with settings: focal:gamma=1.5. [default: ce, or ccc-regression with --targets]",
        ),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            autocompletion=complete_heads,
            help="A name of `embedkit list heads`, or module:Class of your own; values between slashes are searched: "
            "mlp:hidden=64/256. [default: the encoder's usual head]",
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="WORD",
            help="all: train on a learned mean of the layers; each: on each layer alone. In the other modes than "
            "cached: all, last, 6 or 4-9. [default: all]",
        ),
    ] = None,
    normalise: Annotated[
        Literal["none", "speaker"] | None,
        typer.Option(
            metavar="WORD",
            help="speaker: centre and scale every speaker by all of their utterances, test ones too; such numbers are "
            "marked as transductive. [default: none]",
        ),
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDS",
            help="session, speaker, split, random, a column, or speaker+COLUMN to keep both apart at once. "
            "[default: session where there are some, else speaker]",
        ),
    ] = None,
    test_on: Annotated[
        Path | None,
        typer.Option(metavar="STORE", help="A store of another corpus, same encoder, to test on instead of folds."),
    ] = None,
    test_merge: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=LABEL", help="Count a label of the --test-on corpus as another; repeatable."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How often everything is repeated. [default: 3]")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option(metavar="A,B,C", help="The labels that take part. [default: the corpus's task]")
    ] = None,
    merge: Annotated[
        list[str] | None, typer.Option(metavar="LABEL=LABEL", help="Count a label as another; repeatable.")
    ] = None,
    where: Where = None,
    targets: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B,C",
            help="Columns of numbers, such as valence,arousal,dominance, to predict in place of classes.",
        ),
    ] = None,
    lr: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RATE",
            help="Learning rates of heads to choose from. [default: 3e-4,1e-3,3e-3; with --mode finetune or lora 1e-3]",
        ),
    ] = None,
    weight_decay: Annotated[
        list[str] | None, typer.Option(metavar="DECAY", help="Weight decays to choose from. [default: 0]")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Most epochs of a training. [default: 30; with --mode finetune or lora 10]"
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Utterances in a mini-batch. [default: 32]")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Stop a head after so many epochs without a better score. [default: never]"
        ),
    ] = None,
    clip: Annotated[
        float | None, typer.Option(metavar="NORM", help="Largest norm of a head's gradient. [default: no limit]")
    ] = None,
    encoder_lr: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Learning rate of an encoder that is trained. [default: 1e-5, lora 1e-4]"),
    ] = None,
    warmup: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of the training over which that rate rises. [default: 0.1]"),
    ] = None,
    tune_layers: Annotated[
        str | None, typer.Option(metavar="LAYERS", help="Transformer layers that are trained: 7-12. [default: all]")
    ] = None,
    tune_convolutions: Annotated[
        bool | None, typer.Option("--tune-convolutions", help="Train the convolutional front end as well.")
    ] = None,
    recompute: Annotated[
        bool | None, typer.Option("--recompute", help="Gradient checkpointing: a third more time, much less memory.")
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Pass a mini-batch in N parts; the result is the same. [default: 1]"),
    ] = None,
    augment: Annotated[
        list[str] | None, typer.Option(metavar="A,B", help="noise, speed, specaugment. [default: none]")
    ] = None,
    lora_rank: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Rank of the adapters. [default: 8]")
    ] = None,
    lora_alpha: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Scale of the adapters. [default: 16]")
    ] = None,
    lora_targets: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Linear layers with adapters. [default: q_proj,k_proj,v_proj,out_proj]"),
    ] = None,
    save_encoder: Annotated[
        bool | None, typer.Option("--save-encoder", help="Keep the trained encoder of every fold in the run.")
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "auto"] | None,
        typer.Option(metavar="NAME", help="Of the encoder's passes: fp32, bf16 or auto. [default: fp32]"),
    ] = None,
    window: Annotated[
        str | None, typer.Option(metavar="SECONDS", help="Whisper's window, as for `embedkit extract`. [default: clip]")
    ] = None,
    device: Device = None,
    threads: Threads = None,
    memory_gb: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="GB",
            help="Larger embeddings stay on disk while training. [default: a quarter of the memory]",
        ),
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder to keep the runs in. [default: runs]")
    ] = None,
    allow_leak: Annotated[
        bool | None,
        typer.Option(
            "--allow-leak", help="Test on speakers that a fine-tuned encoder was trained on; such numbers are marked."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train again what is already there.")] = False,
) -> None:
    """Train heads on stored embeddings under one or several losses.

    Examples:

        embedkit fit --loss all
        embedkit fit --loss ce,focal:gamma=1.5 --loss aam:scale=15,margin=0.2
        embedkit fit --head linear,mlp:hidden=64/256 --seeds 5
        embedkit fit embeddings/iemocap/hubert.h5 --loss ccc --folds speaker
        embedkit fit embeddings/iemocap/hubert.h5 --targets valence,arousal
        embedkit fit embeddings/emodb/hubert.h5 --layers each --loss all
        embedkit fit path/to/emodb --encoder hubert --mode finetune --save-encoder

    Learning rate, epoch and all else that is searched are chosen on the training side of each fold; a cell that is
    already there is not trained again. Options with several values take them repeated or separated by commas.
    """
    given = locals().copy()
    config = read_config()
    options = read_fit_options(choose_options("fit", config, given))
    from embedkit.training.processes import is_first
    from embedkit.workflows.fit import find_stores, fit_heads

    cached = options.get("mode", "cached") == "cached"
    found = inputs or (find_stores() if cached else [Path(config.corpus or DEMO)])
    named = split_texts(options.pop("encoder", []))
    encoders = named if encoder or not cached else []
    for record in fit_heads(
        found,
        encoders=encoders,
        sources=config.encoders,
        overwrite=overwrite,
        progress=None,
        tell=tell,
        **options,
    ):
        if is_first():
            typer.echo(record.folder)


def read_fit_options(options: dict[str, Any]) -> dict[str, Any]:
    """Turn what the options and `embedkit.toml` hold into keywords of `fit_heads`.

    Raises:
        ConfigError: a value that cannot be read.
    """
    options = dict(options)
    from embedkit.heads import HEADS
    from embedkit.losses import LOSSES

    keywords = {
        "losses": split_specs(options.pop("loss", []), LOSSES),
        "heads": split_specs(options.pop("head", []), HEADS) or None,
        "learning_rates": [read_number(text, "--lr") for text in split_texts(options.pop("lr", []))],
        "weight_decays": [read_number(text, "--weight-decay") for text in split_texts(options.pop("weight_decay", []))],
        "classes": split_texts(options.pop("classes", [])),
        "targets": split_texts(options.pop("targets", [])),
        "merge": read_merge(options.pop("merge", []), "--merge"),
        "test_merge": read_merge(options.pop("test_merge", []), "--test-merge"),
    }
    options |= {name: value for name, value in keywords.items() if value}
    tuning = {TUNING[name]: options.pop(name) for name in TUNING if name in options}
    for name in ("augment", "targets"):
        if name in tuning:
            tuning[name] = tuple(split_texts(tuning[name]))
    return {**options, "tuning": tuning}
