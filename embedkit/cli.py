"""The command line: options, printing and errors around the calls of `embedkit.workflows`.

Workflows are imported inside the commands, so that `--help` imports no torch. What a command finds goes to standard
output, everything it says meanwhile to standard error.
"""

from __future__ import annotations

import atexit
import errno
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

from embedkit.config import SECTIONS, Config, read_config
from embedkit.errors import ConfigError, EmbedkitError
from embedkit.registry import split_specs


class Commands(TyperGroup):
    """The one place where errors become sentences and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; exit with 1 for a problem told in one sentence, 130 when interrupted."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # The interpreter flushes once more when it exits: that must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None
        except KeyboardInterrupt:
            tell("Interrupted; finished work is kept, the same command continues it.")
            raise typer.Exit(130) from None
        except EmbedkitError as error:
            # An extraction that is stopped says itself how to continue.
            code = 130 if isinstance(error.__context__, KeyboardInterrupt) else 1
            raise _tell_error(str(error), code) from None
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT):
                raise
            place = f" at {error.filename!r}" if error.filename else ""
            raise _tell_error(f"{error.strerror}{place}; make room or give another place to write to.") from None
        return result


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line."""
    # Users' own heads and losses lie in the folder they work in; last, so that nothing installed is shadowed.
    sys.path.append(os.getcwd())
    try:
        app(prog_name="embedkit")
    except SystemExit as left:
        _leave(left.code if isinstance(left.code, int) else 0)


def _leave(code: int) -> NoReturn:
    """End the process without taking the interpreter apart: native threads of libraries have been seen to abort it."""
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def tell(message: str) -> None:
    """Say something on standard error, as it stands: paths may hold brackets."""
    _console().print(message, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _console() -> Console:
    return Console(stderr=True)


def _tell_error(message: str, code: int = 1) -> typer.Exit:
    tell(f"Error: {message}" if code == 1 else message)
    return typer.Exit(code)


def _show_version(wanted: bool) -> None:
    if wanted:
        import embedkit

        typer.echo(f"embedkit {embedkit.__version__}")
        raise typer.Exit


@app.callback()
def embedkit_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Speech embeddings once, emotion heads in seconds.

    Three commands make a study; without a corpus they run on a small synthetic one:

        embedkit extract --encoder hubert
        embedkit fit --loss ce,focal,ccc
        embedkit table

    Defaults of all options can be set in `embedkit.toml` in the current folder.
    """


Where = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=VALUE", help="Take only utterances with this value; repeatable: all must hold."),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda. [default: auto]")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads. [default: all cores]")]


@app.command()
def extract(
    corpus: Annotated[
        str | None,
        typer.Argument(help="A corpus folder, a CSV manifest, or demo. [default: embedkit.toml's, else demo]"),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="A name of `embedkit list encoders`, a Hugging Face id, or a local folder; repeatable."),
    ] = None,
    layers: Annotated[str | None, typer.Option(help="all, last, 6, or 4-9. [default: all]")] = None,
    level: Annotated[
        Literal["utterance", "frame", "both"] | None,
        typer.Option(help="Keep utterance statistics, or frames as well. [default: what its usual head needs]"),
    ] = None,
    frame_dtype: Annotated[
        Literal["float16", "float32"] | None, typer.Option(help="Type of the frames. [default: the encoder's]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The store to write. [default: embeddings/CORPUS/ENCODER.h5]")
    ] = None,
    where: Where = None,
    device: Device = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32 (the reference), bf16, fp16 or auto. [default: fp32]")
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="Whisper's window: clip (the clip itself) or seconds. [default: clip]")
    ] = None,
    batch_seconds: Annotated[
        float | None, typer.Option(help="Seconds of audio in a batch. [default: what the device does fast]")
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            help="Encode longer clips in overlapping windows of this length. [default: what the encoder takes]"
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Threads that read audio. [default: up to 4]")] = None,
    threads: Threads = None,
    engine: Annotated[
        Literal["local", "ray"] | None,
        typer.Option(help="Encode in this process, or on the Ray cluster of RAY_ADDRESS. [default: local]"),
    ] = None,
    max_file_gb: Annotated[
        float | None,
        typer.Option(help="Keep a larger store in files of at most this many gigabytes. [default: one file]"),
    ] = None,
    on_error: Annotated[
        Literal["fail", "skip"] | None,
        typer.Option(help="Stop at audio that cannot be used, or list it and go on. [default: fail]"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only so many utterances, evenly spread.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a store made with other options.")] = False,
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
    options = _choose("extract", config, given)
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
    from embedkit.workflows.extract import extract_embeddings

    for name in encoders:
        store = extract_embeddings(
            corpus or "demo", encoder=name, overwrite=overwrite, sources=config.encoders, tell=tell, **options
        )
        typer.echo(store.path)


@app.command()
def fit(
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="INPUT", help="Stores. [default: every one below embeddings/]")
    ] = None,
    loss: Annotated[
        list[str] | None,
        typer.Option(
            help="ce, label-smoothing, focal, aam, ccc, or all for these; others of `embedkit list losses` by name; "
            "with settings: focal:gamma=1.5. [default: ce]"
        ),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(
            help="A name of `embedkit list heads`; values between slashes are searched: mlp:hidden=64/256. "
            "[default: the encoder's usual head]"
        ),
    ] = None,
    layers: Annotated[
        Literal["all", "each"] | None,
        typer.Option(help="Train on a learned mean of all layers, or on each layer alone. [default: all]"),
    ] = None,
    normalise: Annotated[
        Literal["none", "speaker"] | None,
        typer.Option(
            help="speaker: centre and scale every speaker by all of their utterances, test ones too; such numbers are "
            "marked as transductive. [default: none]"
        ),
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option(
            help="session, speaker, split, random, a column, or speaker+COLUMN to keep both apart at once. "
            "[default: session where there are, or speaker]"
        ),
    ] = None,
    test_on: Annotated[
        Path | None, typer.Option(help="A store of another corpus, same encoder, to test on instead of folds.")
    ] = None,
    test_merge: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=LABEL", help="Count a label of the --test-on corpus as another; repeatable."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How often everything is repeated. [default: 3]")] = None,
    classes: Annotated[
        list[str] | None, typer.Option(metavar="A,B,C", help="The labels that take part. [default: the corpus's task]")
    ] = None,
    merge: Annotated[
        list[str] | None, typer.Option(metavar="LABEL=LABEL", help="Count a label as another; repeatable.")
    ] = None,
    where: Where = None,
    lr: Annotated[
        list[str] | None,
        typer.Option(metavar="RATE", help="Learning rates to choose from. [default: 3e-4,1e-3,3e-3]"),
    ] = None,
    weight_decay: Annotated[
        list[str] | None, typer.Option(metavar="DECAY", help="Weight decays to choose from. [default: 0]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Most epochs of a training. [default: 30]")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Utterances in a mini-batch. [default: 32]")] = None,
    device: Device = None,
    threads: Threads = None,
    runs: Annotated[Path | None, typer.Option(help="Folder to keep the runs in. [default: runs]")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train again what is already there.")] = False,
) -> None:
    """Train heads on stored embeddings under one or several losses.

    Examples:

        embedkit fit --loss all
        embedkit fit --loss ce,focal:gamma=1.5 --loss aam:scale=15,margin=0.2 --head linear,mlp
        embedkit fit embeddings/iemocap/hubert.h5 --loss ccc --folds speaker --seeds 5
        embedkit fit embeddings/emodb/hubert.h5 --layers each --loss all

    Learning rate, epoch and all else that is searched are chosen on the training side of each fold; a cell that is
    already there is not trained again. Options with several values take them repeated or separated by commas.
    """
    given = locals().copy()
    options = _choose("fit", read_config(), given)
    from embedkit.heads import HEADS
    from embedkit.losses import LOSSES

    keywords = {
        "losses": split_specs(options.pop("loss", ["ce"]), LOSSES),
        "heads": split_specs(options.pop("head", []), HEADS) or None,
        "learning_rates": [_read_number(text, "--lr") for text in _split(options.pop("lr", []))],
        "weight_decays": [_read_number(text, "--weight-decay") for text in _split(options.pop("weight_decay", []))],
        "classes": _split(options.pop("classes", [])),
        "merge": _read_merge(options.pop("merge", []), "--merge"),
        "test_merge": _read_merge(options.pop("test_merge", []), "--test-merge"),
    }
    options |= {name: value for name, value in keywords.items() if value}
    from embedkit.workflows.fit import find_stores, fit_heads

    for record in fit_heads(inputs or find_stores(), overwrite=overwrite, progress=None, tell=tell, **options):
        typer.echo(record.folder)


@app.command()
def table(
    runs: Annotated[
        Path | None, typer.Argument(help="Folder that holds the runs. [default: embedkit.toml's, else runs]")
    ] = None,
    metric: Annotated[
        Literal["ua", "wa", "f1", "nll", "ece", "all"] | None,
        typer.Option(
            help="ua: mean recall; wa: accuracy; f1: macro-F1; nll: negative log-likelihood; ece: calibration error; "
            "all: a table each. [default: ua]"
        ),
    ] = None,
    format: Annotated[
        Literal["text", "markdown", "latex", "csv", "json"] | None,
        typer.Option(metavar="FORMAT", help="text, markdown, latex, csv or json. [default: text]"),
    ] = None,
    published: Annotated[
        bool | None, typer.Option("--published", help="Set the study's published numbers, with notes, beside.")
    ] = None,
) -> None:
    """Show encoders by losses, one table for each protocol.

    Examples:

        embedkit table
        embedkit table --metric all --format latex > table.tex
        embedkit table --metric wa --published

    The best loss of each row is marked; a random split is named as what it is.
    """
    given = locals().copy()
    config = read_config()
    options = _choose("table", config, given)
    folder = options.pop("runs", None) or config.options("fit").get("runs", "runs")
    from embedkit.workflows.table import tabulate_runs

    console = Console()
    _show(tabulate_runs(folder, **options).render(bold=console.is_terminal and not console.no_color))


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder, as `embedkit fit` prints it.")],
    audio: Annotated[list[Path], typer.Argument(help="Audio files.")],
    device: Device = None,
    format: Annotated[Literal["text", "csv", "json"], typer.Option(help="How to print.")] = "text",
) -> None:
    """Classify audio files with a fitted run.

    Examples:

        embedkit predict runs/demo/mfcc/lstm/ce-1a2b3c4d my.wav other.flac

    The encoder is found again from the run.
    """
    from embedkit.workflows.predict import predict_audio, render_predictions

    predictions = predict_audio(run, audio, device=device or "auto", sources=read_config().encoders, tell=tell)
    _show(render_predictions(predictions, format))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to work in.")] = Path("embedkit-demo"),
) -> None:
    """Run extract, fit and table on the built-in synthetic corpus.

    Takes under three minutes and needs no network:

        embedkit demo

    Its numbers say nothing about real speech.
    """
    from embedkit.workflows.demo import run_demo

    console = Console()
    result = run_demo(out, progress=None, tell=tell)
    _show(result.table.render(bold=console.is_terminal and not console.no_color))
    tell(result.closing_words)


@app.command()
def inspect(store: Annotated[Path, typer.Argument(help="A store, as `embedkit extract` prints it.")]) -> None:
    """Show what is in a store.

    Examples:

        embedkit inspect embeddings/demo/mfcc.h5

    No embeddings are read for it.
    """
    from embedkit.workflows.inspect import describe_store

    _show(str(describe_store(store)))


@app.command()
def verify(
    store: Annotated[Path, typer.Argument(help="A store, as `embedkit extract` prints it.")],
    audio: Annotated[bool, typer.Option("--audio", help="Compare the audio files with their digests, too.")] = False,
) -> None:
    """Read a whole store, recompute its digests, and name what is damaged.

    Examples:

        embedkit verify embeddings/demo/mfcc.h5 --audio

    Exits with 1 where something is damaged.
    """
    from embedkit.workflows.verify import verify_store

    found = verify_store(store, audio=audio, progress=None)
    _show(str(found))
    if not found.ok:
        raise typer.Exit(1)


@app.command("list")
def list_command(
    kind: Annotated[
        Literal["encoders", "heads", "losses", "corpora"],
        typer.Argument(help="What to list."),
    ],
) -> None:
    """List the encoders, heads, losses or corpora that can be named.

    Examples:

        embedkit list losses

    Under it stand its settings with their defaults, written as they are given.
    """
    from embedkit.workflows.catalogue import list_parts

    entries = list_parts(kind, sources=read_config().encoders if kind == "encoders" else None)
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        typer.echo(f"{entry.name:<{width}}  {entry.summary}")
        if entry.settings:
            settings = ",".join(f"{name}={_write_setting(value)}" for name, value in entry.settings.items())
            typer.echo(f"{'':<{width}}  {entry.name}:{settings}")


def _write_setting(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _choose(command: str, config: Config, given: Mapping[str, Any]) -> dict[str, Any]:
    """Let options win over embedkit.toml; what neither sets is left out, for the library's defaults."""
    names = [key.replace("-", "_") for key in SECTIONS[command]]
    return {**config.options(command), **{name: given[name] for name in names if given[name] not in (None, [])}}


def _show(text: str) -> None:
    sys.stdout.write(text + "\n")


def _split(texts: Iterable[str | float]) -> list[str]:
    return [part.strip() for text in texts for part in str(text).split(",") if part.strip()]


def _read_number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{option} is {text!r}, expected numbers such as 3e-4,1e-3.") from None


def _read_merge(texts: Iterable[str], option: str) -> dict[str, str]:
    merge: dict[str, str] = {}
    for text in _split(texts):
        label, equals, other = text.partition("=")
        if not (label and equals and other):
            raise ConfigError(f"{option} is {text!r}, expected LABEL=LABEL as in excitement=happiness.")
        merge[label.strip()] = other.strip()
    return merge
