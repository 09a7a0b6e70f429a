"""The options of `study`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from embedkit.options.fit import Mode, TrainingOptions
from embedkit.options.option import option


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
    part: str | None = option(
        panel="Machine",
        metavar="K/N",
        help="Do one part of N, counted from 1, as the jobs of an array do, at once or one after another, on a shared "
        "disk; once all are done, the same command without it shows the table.",
        usual="the whole",
        in_toml=False,
    )
    stores: Path = option(Path("embeddings"), panel="Machine", metavar="FOLDER", help="Folder to keep the stores in.")
