"""The options of `fit`, which `study` shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from embedkit.errors import FitError
from embedkit.options.option import COUNT, DECIBELS, NOT_NEGATIVE, PART, POSITIVE, SHARE, declared, option
from embedkit.wording import list_words

Mode: TypeAlias = Literal["cached", "frozen", "finetune", "lora"]

TUNED = ("finetune", "lora")
"""Modes in which the encoder is trained."""

RUNNING = ("frozen", *TUNED)
"""Modes in which the encoder runs while heads train."""

LEARNING_RATES = (1e-3, 3e-3, 1e-2, 3e-2)
"""One more rate on either side raises no inner score by more than 0.3 points or so, but on small corpora, where 1e-1
gains up to 0.7 (benchmarks/README.md)."""

HALVED_RATES = (*LEARNING_RATES, 1e-1)
"""What is searched by halves, in less time."""


BATCH, EPOCHS, FEWEST_EPOCHS = 32, 30, 10
LARGE = 20_000
"""Utterances above which, by default, mini-batches grow with them, and epochs become fewer (docs/scaling.md)."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How heads are trained and tested: what `fit` and `study` share.

    Defaults that depend on the mode are None until `resolve` fills them in.
    """

    loss: tuple[str, ...] | None = option(
        panel="Heads",
        metavar="NAME",
        help="ce, label-smoothing, focal, aam, ccc, or all for these; others of `embedkit list losses` by name, or "
        "module:Name of your own; with settings: focal:gamma=1.5.",
        usual="ce, or ccc-regression with --targets",
        catalogue="embedkit.losses:LOSSES",
        specs=True,
        single=True,
        former="losses",
        record="loss_spec",
        resolved=True,
    )
    head: tuple[str, ...] | None = option(
        panel="Heads",
        metavar="NAME",
        help="A name of `embedkit list heads`, or module:Class of your own; values between slashes are searched: "
        "mlp:hidden=64/256.",
        usual="the encoder's usual head",
        catalogue="embedkit.heads:HEADS",
        specs=True,
        single=True,
        former="heads",
        record="head_spec",
        resolved=True,
    )
    init_head: Literal["random", "published"] = option(
        "random",
        panel="Heads",
        metavar="WORD",
        help="published: begin with the head that the encoder's checkpoint carries, as published classifiers do.",
        modes=RUNNING,
        record="init_head.kind",
        resolved=True,
    )
    map: Mapping[str, str] | None = option(
        panel="Heads",
        metavar="LABEL=CLASS",
        help="With --init-head published: which of its labels stand for which class (or column of ratings); "
        "repeatable.",
        usual="labels of the classes' names, or usual abbreviations of them",
        modes=RUNNING,
        record="init_head.map",
        resolved=True,
    )
    layers: str = option(
        "all",
        panel="Heads",
        metavar="WORD",
        help="all: train on a learned weighted sum of the layers; each: on each layer alone. In the other modes than "
        "cached: all, last, 6 or 4-9.",
        record="layer",
        resolved=True,
        numeral=True,
    )
    normalise: Literal["none", "speaker"] = option(
        "none",
        panel="Data",
        metavar="WORD",
        help="speaker: centre and scale every speaker by all of their utterances, test ones too; such numbers are "
        "marked as transductive.",
        record="normalise",
        resolved=True,
    )
    standardise_by: Literal["together", "corpus"] = option(
        "together",
        panel="Data",
        metavar="WORD",
        help="corpus: with several corpora, standardise each by what is trained on of it, and one that is tested alone "
        "by itself; such numbers are marked as transductive.",
        modes=("cached",),
        record="standardise_by",
        resolved=True,
    )
    folds: str | None = option(
        panel="Data",
        metavar="FOLDS",
        help="speaker or leave-one-speaker-out, session or leave-one-session-out, split, random, a column, or "
        "speaker+COLUMN to keep both apart at once.",
        synonyms={
            "leave-one-speaker-out": "speaker",
            "leave-one-session-out": "session",
            "loso": ("leave-one-speaker-out", "leave-one-session-out"),
        },
        usual="session if the corpus has sessions, else speaker",
        record="folds.kind",
        resolved=True,
    )
    test_on: tuple[Path, ...] = option(
        (),
        panel="Data",
        metavar="STORE",
        help="A store of another corpus, same encoder, to test on instead of folds; repeatable: trained once, tested "
        "on each, a run for each.",
        single=True,
        split=False,
        accepts="embedkit.store.reader:Store",
        record="test_store.path",
        resolved=True,
    )
    test_merge: Mapping[str, str] | None = option(
        panel="Data",
        metavar="LABEL=LABEL",
        help="Count a label of the --test-on corpus as another, beside its usual ones; takes patterns as --merge; "
        "of several corpora for those that have the label; repeatable.",
        usual="none",
        record="test_merge",
        resolved=True,
    )
    train_share: tuple[float, ...] = option(
        (1.0,),
        panel="Data",
        metavar="SHARE",
        help="Train on these shares of every fold's training speakers, each a run of its own (learning curves): "
        "0.1,0.3,1; test sets stay.",
        usual="1",
        bound=PART,
        single=True,
        example=" such as 0.1,0.3,1",
        record="train_share",
        resolved=True,
    )
    noise_snr: tuple[float, ...] = option(
        (),
        panel="Data",
        metavar="DB",
        help="Score the same heads on noisy test recordings as well, at these signal-to-noise ratios in dB: 20,10,0; "
        "from the stores that `embedkit extract --noise-snr` wrote beside.",
        bound=DECIBELS,
        example=" such as 20,10,0",
        modes=("cached",),
        record="noise.snr",
        resolved=True,
    )
    noise: str | None = option(
        panel="Data",
        metavar="FOLDER",
        help="Recordings of noise behind these stores, as for `embedkit extract`.",
        usual="white noise",
        modes=("cached",),
        record="noise.folder",
        resolved=True,
    )
    corpus_name: str | None = option(
        panel="Data",
        metavar="NAME",
        help="What the corpus is called in stores, runs and tables.",
        usual="as for `embedkit extract`",
        record="corpus_name",
    )
    duplicates: Literal["keep", "drop"] = option(
        "keep",
        panel="Data",
        metavar="WORD",
        help="drop: of utterances with the same audio take one; keep: take all, and refuse to test on what is trained "
        "on.",
        record="duplicates",
    )
    seeds: int = option(
        3,
        panel="Training",
        metavar="N",
        help="Number of seeds; every experiment is repeated with each.",
        bound=COUNT,
        record="seeds",
        resolved=True,
    )
    classes: tuple[str, ...] | None = option(
        panel="Data",
        metavar="A,B,C",
        help="The labels that take part.",
        usual="the corpus's task",
        record="classes",
        resolved=True,
    )
    merge: Mapping[str, str] | None = option(
        panel="Data",
        metavar="LABEL=LABEL",
        help="Count a label as another; 'HAPPY*=happiness' takes all that match (* any text, ? a character), case, "
        "spaces and invisible characters aside; repeatable.",
        usual="the corpus's task",
        record="merge",
        resolved=True,
    )
    where: tuple[str, ...] = option(
        (),
        panel="Data",
        metavar="COLUMN=VALUE",
        help="Take only utterances with this value; repeatable: all must hold.",
        split=False,
        record="where",
        resolved=True,
    )
    targets: tuple[str, ...] = option(
        (),
        panel="Data",
        metavar="A,B,C",
        help="Emotional attributes to predict in place of classes: columns of numbers such as valence,arousal; "
        "utterances that lack one are left out, and counted.",
        single=True,
        record="dimensions",
        resolved=True,
    )
    lr: tuple[float, ...] | None = option(
        panel="Training",
        metavar="RATE",
        help="Learning rates of heads to choose from.",
        usual="1e-3,3e-3,1e-2,3e-2,1e-1; without --halving not 1e-1; with --mode finetune or lora 1e-3",
        bound=POSITIVE,
        single=True,
        example=" such as 3e-4,1e-3",
        former="learning_rates",
        record="budget.learning_rates",
        always=True,
    )
    weight_decay: tuple[float, ...] = option(
        (0.0,),
        panel="Training",
        metavar="DECAY",
        help="Weight decays to choose from.",
        usual="0",
        bound=NOT_NEGATIVE,
        single=True,
        example=" such as 0,0.01",
        former="weight_decays",
        record="budget.weight_decays",
        always=True,
    )
    epochs: int | None = option(
        panel="Training",
        metavar="N",
        help="Maximum number of epochs.",
        usual="30, of more than 20,000 utterances fewer; with --mode finetune or lora 10",
        bound=COUNT,
        record="budget.epochs",
        always=True,
    )
    batch_size: int | None = option(
        panel="Training",
        metavar="N",
        help="Utterances in a mini-batch.",
        usual="32, of more than 20,000 utterances more",
        bound=COUNT,
        record="budget.batch_size",
        always=True,
    )
    patience: int | None = option(
        panel="Training",
        metavar="N",
        help="Stop a head after so many epochs without a better score.",
        usual="never",
        bound=COUNT,
        record="budget.patience",
    )
    halving: bool | None = option(
        panel="Training",
        help="Of five or more candidates under a loss, stop the worse half after a third of the epochs.",
        usual="with heads on stores, where neither --lr nor --patience is given",
        record="budget.halving",
    )
    clip: float | None = option(
        panel="Training",
        metavar="NORM",
        help="Largest norm of a head's gradient.",
        usual="no limit",
        bound=POSITIVE,
        record="budget.clip",
    )
    encoder_lr: float | None = option(
        panel="Encoder",
        metavar="RATE",
        help="Learning rate of an encoder that is trained.",
        usual="1e-5, lora 1e-4",
        bound=POSITIVE,
        modes=TUNED,
        record="tuning.encoder_rate",
        always=True,
    )
    warmup: float = option(
        0.1,
        panel="Encoder",
        metavar="SHARE",
        help="Share of the training over which that rate rises; then it falls to a tenth.",
        bound=SHARE,
        modes=TUNED,
        record="tuning.warmup",
        always=True,
    )
    tune_layers: str = option(
        "all",
        panel="Encoder",
        metavar="LAYERS",
        help="Transformer layers that are trained: 7-12.",
        modes=TUNED,
        record="tuning.layers",
        always=True,
        numeral=True,
    )
    tune_convolutions: bool = option(
        False,
        panel="Encoder",
        help="Train the convolutional front end as well.",
        modes=("finetune",),
        record="tuning.convolutions",
        always=True,
    )
    recompute: bool = option(
        False,
        panel="Encoder",
        help="Gradient checkpointing: a third more time, much less memory.",
        modes=TUNED,
        record="tuning.recompute",
        always=True,
    )
    accumulate: int = option(
        1,
        panel="Encoder",
        metavar="N",
        help="Pass a mini-batch in N parts; the result is the same.",
        bound=COUNT,
        modes=TUNED,
        record="tuning.accumulate",
        always=True,
    )
    augment: tuple[str, ...] = option(
        (),
        panel="Encoder",
        metavar="A,B",
        help="Random changes of training clips, in order: names of `embedkit list augmentations`, all, or module:name "
        "of your own; with settings: noise:low=5,high=20, reverb:folder=ROOMS.",
        catalogue="embedkit.augmentations:AUGMENTATIONS",
        specs=True,
        repeats=True,
        modes=TUNED,
        record="augment",
        resolved=True,
    )
    lora_rank: int = option(
        8,
        panel="LoRA",
        metavar="N",
        help="Rank of the adapters.",
        bound=COUNT,
        modes=("lora",),
        record="tuning.rank",
        always=True,
    )
    lora_alpha: int = option(
        16,
        panel="LoRA",
        metavar="N",
        help="Scale of the adapters.",
        bound=COUNT,
        modes=("lora",),
        record="tuning.alpha",
        always=True,
    )
    lora_targets: tuple[str, ...] = option(
        ("q_proj", "k_proj", "v_proj", "out_proj"),
        panel="LoRA",
        metavar="A,B",
        help="Linear layers with adapters.",
        usual="q_proj,k_proj,v_proj,out_proj",
        modes=("lora",),
        record="tuning.targets",
        always=True,
    )
    save_encoder: bool = option(
        False, panel="Encoder", help="Keep the trained encoder of every fold in the run.", modes=TUNED
    )
    precision: Literal["fp32", "bf16", "auto"] | None = option(
        panel="Encoder",
        metavar="NAME",
        help="Of the encoder's passes: fp32, bf16 or auto; what is trained is kept in fp32.",
        usual="fp32",
        modes=RUNNING,
        record="store_fingerprint",
        resolved=True,
    )
    window: str | float | None = option(
        panel="Encoder",
        metavar="SECONDS",
        help="Whisper's window, as for `embedkit extract`.",
        usual="clip",
        modes=RUNNING,
        record="store_fingerprint",
        resolved=True,
        numeral=True,
    )
    device: str = option("auto", panel="Machine", metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps.")
    threads: int | None = option(panel="Machine", metavar="N", help="CPU threads.", usual="all cores", bound=COUNT)
    memory_gb: float | None = option(
        panel="Machine",
        metavar="GB",
        help="Larger embeddings stay on disk while training, with the same results.",
        usual="a quarter of the memory, of utterance means at most 3 GB",
        bound=NOT_NEGATIVE,
    )
    runs: Path = option(Path("runs"), panel="Machine", metavar="FOLDER", help="Folder to keep the runs in.")
    track: tuple[str, ...] = option(
        (),
        panel="Training",
        metavar="NAME",
        help="Tell another program how heads learn: tensorboard, or module:Name of your own.",
        usual="none",
        catalogue="embedkit.training.tracking:TRACKERS",
        single=True,
    )
    allow_leak: bool = option(
        False,
        panel="Data",
        help="Test on what was trained on: the same recordings, or speakers that a fine-tuned encoder knows; such "
        "numbers are marked.",
        record="leak",
        resolved=True,
    )
    overwrite: bool = option(False, panel="Machine", help="Train again what is already there.", in_toml=False)

    def __post_init__(self) -> None:
        for name, one in declared(type(self)).items():
            one.check(getattr(self, name), one.flag)
        if self.targets and (self.classes is not None or self.merge or self.test_merge):
            raise FitError(
                f"Found both emotional attributes to predict ({', '.join(self.targets)}) and classes or merged labels; "
                "leave out --targets or the others, and choose utterances with --where label=LABEL."
            )
        if self.halving and self.patience is not None:
            raise FitError("Found both --halving and --patience, which stop heads in two ways; leave out one of them.")
        if self.test_on and self.folds is not None:
            raise FitError(
                f"Found both folds by {self.folds} and another corpus to test on; leave out --folds or --test-on."
            )
        if self.map and self.init_head != "published":
            raise FitError("Found --map without a published head to begin with; add --init-head published.")
        if self.noise is not None and not self.noise_snr:
            raise FitError(f"Found recordings of noise ({self.noise}) without a level; name it with --noise-snr.")
        if self.noise_snr and self.standardise_by != "together":
            raise FitError(
                "Found --standardise-by corpus beside --noise-snr, whose recordings belong to no corpus trained on; "
                "leave out one of them."
            )
        if self.test_merge and not self.test_on:
            raise FitError("A label map for another corpus was given, but no store to test on; name it with --test-on.")


@dataclass(frozen=True, kw_only=True)
class FitOptions(TrainingOptions):
    """The options of `fit`."""

    mode: Mode = option(
        "cached",
        panel="Encoder",
        metavar="MODE",
        help="cached: heads on embedding files (stores). frozen: the encoder runs in every epoch. finetune: it is "
        "trained with the head. lora: adapters in it are.",
        record="mode",
        resolved=True,
    )
    encoder: tuple[str, ...] = option(
        (),
        panel="Encoder",
        metavar="NAME",
        help="What runs in the modes other than cached, as for `embedkit extract`.",
        usual="none",
        catalogue="embedkit.encoders:ENCODERS",
        single=True,
        former="encoders",
        record="store_fingerprint",
        resolved=True,
    )

    pool: bool = option(
        False,
        panel="Data",
        help="Train on all stores together, of one encoder and of a corpus each; their speakers are named after their "
        "corpus.",
        modes=("cached",),
        record="pooled",
        resolved=True,
    )

    @property
    def tuned(self) -> bool:
        """Whether the encoder is trained."""
        return self.mode in TUNED

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds: 0, 1, 2, ..."""
        return tuple(range(self.seeds))

    def resolve(self) -> FitOptions:
        """Fill in the defaults that depend on the mode, and refuse options that mean nothing in it.

        Raises:
            FitError: such an option.
        """
        require_used(self, [self.mode])
        if self.halving and self.mode != "cached":
            raise FitError(
                f"The option --halving saves nothing with --mode {self.mode}, where the encoder takes the time; leave "
                "it out."
            )
        usual = self.lr is None and self.mode == "cached" and self.patience is None
        halving = usual if self.halving is None else self.halving
        lr = self.lr or ((1e-3,) if self.tuned else HALVED_RATES if halving else LEARNING_RATES)
        return replace(
            self,
            lr=lr,
            halving=halving or None,
            epochs=self.epochs or (10 if self.tuned else None),
            encoder_lr=self.encoder_lr or {"finetune": 1e-5, "lora": 1e-4}.get(self.mode),
            loss=(("ccc-regression",) if self.targets else ("ce",)) if self.loss is None else self.loss,
        )

    def sized(self, utterances: int) -> FitOptions:
        """Fill in the defaults that depend on how many utterances take part."""
        times = 1.0 if self.tuned else max(1.0, utterances / LARGE)
        return replace(
            self,
            batch_size=self.batch_size or BATCH * 2 ** math.ceil(math.log2(times)),
            epochs=self.epochs or max(FEWEST_EPOCHS, round(EPOCHS / times)),
        )


def require_used(options: TrainingOptions, modes: Sequence[str]) -> None:
    """Refuse an option that means nothing in any of some modes.

    Raises:
        FitError: such an option.
    """
    for name in unused_options(options, modes[0]):
        if all(name in unused_options(options, mode) for mode in modes):
            one = declared(type(options))[name]
            raise FitError(
                f"The option {one.flag} means nothing with --mode {list_words(modes, 'or')}; leave it out, or choose "
                f"--mode {list_words(one.told.modes, 'or')}."
            )


def require_one_named(name: str | None, corpora: int) -> None:
    """Refuse one name for several corpora.

    Raises:
        FitError: that.
    """
    if name is not None and corpora > 1:
        raise FitError(f"Found --corpus-name {name!r} and {corpora} corpora; give one corpus with it.")


def unused_options(options: TrainingOptions, mode: str) -> list[str]:
    """Name the options that are set and mean nothing in a mode."""
    return [
        name
        for name, one in declared(type(options)).items()
        if one.told.modes and mode not in one.told.modes and getattr(options, name) != one.default
    ]
