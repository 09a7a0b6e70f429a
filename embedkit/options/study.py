"""The options of `study`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import FitError
from embedkit.options.fit import Mode, TrainingOptions
from embedkit.options.option import option
from embedkit.wording import list_words


@dataclass(frozen=True, kw_only=True)
class StudyOptions(TrainingOptions):
    """What `fit` takes, for several modes and encoders at once."""

    corpora: tuple[str, ...] = option(
        (),
        panel="Data",
        help="Corpora, as for `embedkit extract`.",
        usual="embedkit.toml's corpus, else demo",
        on_command_line=False,
        located=True,
    )
    mode: tuple[Mode, ...] = option(
        ("cached",),
        panel="Encoder",
        metavar="MODE",
        help="cached, frozen, finetune, lora, as for `embedkit fit`; several make a row of the table each.",
        usual="cached",
        single=True,
        former="modes",
    )
    encoder: tuple[str, ...] = option(
        (),
        panel="Encoder",
        metavar="NAME",
        help="Encoders, as for `embedkit extract`; repeatable.",
        usual="those of [extract] in embedkit.toml",
        catalogue="embedkit.encoders:ENCODERS",
        single=True,
        former="encoders",
    )
    cross: bool = option(
        False,
        panel="Data",
        help="Train on each corpus and test on every other one as well, by the labels that all have: the cross-corpus "
        "matrix.",
    )
    all_others: bool = option(
        False,
        panel="Data",
        help="With --cross of three corpora or more: a row trained on all other corpora together, too.",
    )
    part: str | None = option(
        panel="Machine",
        metavar="K/N",
        help="Do one part of N, counted from 1, as the jobs of an array do, at once or one after another, on a shared "
        "disk; once all are done, the same command without it shows the table.",
        usual="the whole",
        in_toml=False,
    )
    stores: Path = option(Path("embeddings"), panel="Machine", metavar="FOLDER", help="Folder to keep the stores in.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.all_others and not self.cross:
            raise FitError("The option --all-others adds a row to the matrix of --cross; give both.")
        if not self.cross:
            return
        for flag, given in (("--test-on", self.test_on), ("--merge", self.merge)):
            if given:
                raise FitError(
                    f"Found {flag} beside --cross, which tests on every corpus by the labels of its usual task; leave "
                    "one of them out."
                )
        if "cached" not in self.mode:
            raise FitError(
                f"The option --cross means nothing with --mode {list_words(self.mode, 'or')}; leave it out, or add "
                "--mode cached."
            )
