"""The parts of a study: each corpus with each encoder, and how they are extracted and fitted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, get_args

from embedkit.arguments import as_list
from embedkit.corpora import Corpus, open_corpus
from embedkit.encoders.run_encoders import expand_runs
from embedkit.errors import ConfigError, EmbedkitError, UnknownNameError
from embedkit.extraction.request import FOLDER, default_path
from embedkit.heads import expand_head, resolve_head
from embedkit.losses import build_loss, expand_losses
from embedkit.progress import Progress, Tell
from embedkit.registry import unknown_name
from embedkit.store import Store, open_store
from embedkit.training.options import Mode
from embedkit.training.runs import RunRecord

_T = TypeVar("_T")
Step: TypeAlias = tuple[str, str, str | None]
"""What to call it, a mode and a head."""


@dataclass(frozen=True)
class Pair:
    """A corpus and an encoder; of a run that trained encoders those of all folds.

    Attributes:
        corpus: The corpus.
        encoder: What the user called the encoder.
        names: The encoders that stand for it.
    """

    corpus: Corpus
    encoder: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.corpus.name} with {self.encoder}"


@dataclass(kw_only=True)
class StudyPlan:
    """What all parts share, and what has become of them.

    Attributes:
        heads: With settings; None for an encoder's usual one.
        losses: None for the usual one.
        modes: Of `fit`.
        extract_options, fit_options: Further options of the two.
        extract, fit: What does them.
        stores: Folder of the stores.
        sources: Of the encoders.
        progress, tell: How the user hears of it.
        missing: What failed, and why.
        single: Whether there is one part alone, whose failure is the study's.
    """

    heads: tuple[str | None, ...]
    losses: tuple[str, ...] | None
    modes: tuple[str, ...]
    extract_options: Mapping[str, Any]
    fit_options: Mapping[str, Any]
    extract: Callable[..., Store]
    fit: Callable[..., list[RunRecord]]
    stores: Path
    sources: Mapping[str, str]
    progress: Progress | bool | None
    tell: Tell
    missing: dict[str, str] = field(default_factory=dict)
    single: bool = False

    def open(self, corpora: Any, encoders: Sequence[str] | str) -> list[Pair]:
        """Open the corpora; what cannot be opened is left out.

        Raises:
            ConfigError: two corpora of one name.
        """
        opened: dict[str, Corpus] = {}
        counts = [len(as_list(corpora)), len(as_list(encoders)), len(self.heads), len(self.modes)]
        self.single = math.prod(counts) == 1
        for source in as_list(corpora):
            found = source if isinstance(source, Corpus) else self.attempt(str(source), partial(open_corpus, source))
            if found is None:
                continue
            known = opened.setdefault(found.name, found)
            if (known.root, known.kind) != (found.root, found.kind):
                raise ConfigError(
                    f"Two corpora are called {found.name!r} ({str(known.root)!r} and {str(found.root)!r}), but stores "
                    "and runs go by that name; rename one, or give each a study of its own."
                )
        for note in dict.fromkeys(note for corpus in opened.values() for note in corpus.notes):
            self.tell(note)
        expanded = {name: tuple(expand_runs([name], self.tell)) for name in as_list(encoders)}
        return [Pair(corpus, *encoder) for corpus in opened.values() for encoder in expanded.items()]

    def attempt(self, what: str, action: Callable[[], _T]) -> _T | None:
        """Do a part; one that fails is told, left out and not tried again.

        Raises:
            ConfigError, UnknownNameError: what is wrong concerns all parts.
        """
        if what in self.missing:
            return None
        try:
            return action()
        except (ConfigError, UnknownNameError):
            raise
        except EmbedkitError as error:
            # Extractions turn an interruption into an error of their own.
            if self.single or isinstance(error.__context__, KeyboardInterrupt):
                raise
            self.missing[what] = str(error)
            self.tell(f"Left out: {what}. {error}")
            return None

    def list_missing(self) -> str:
        """List what failed, and why."""
        return "; ".join(f"{what} ({why.rstrip('.')})" for what, why in self.missing.items())

    def path(self, pair: Pair, name: str) -> Path:
        """Return where the store of one of a pair's encoders lies."""
        return self.stores / default_path(pair.corpus.name, name).relative_to(FOLDER)

    def level(self, pair: Pair, name: str) -> str | None:
        """Choose what is kept: what the store keeps already, else what the heads need."""
        path = self.path(pair, name)
        if "level" in self.extract_options:
            return str(self.extract_options["level"])
        if path.exists():
            return "both" if open_store(path).has_frames else "utterance"
        heads = [one for head in self.heads if head is not None for one in expand_head(head)]
        return "both" if any(resolve_head(one)[1].level == "frame" for one in heads) else None

    def steps(self, pair: Pair) -> Iterator[Step]:
        """Yield what is fitted of a pair."""
        for mode in self.modes:
            for head in self.heads:
                yield ", ".join(filter(None, [str(pair), head, mode if mode != "cached" else ""])), mode, head

    def extract_pair(self, pair: Pair) -> list[Store] | None:
        """Extract a corpus with an encoder; None where it fails, or stores are not needed."""
        if "cached" not in self.modes:
            return None

        def tell(sentence: str) -> None:
            if sentence not in pair.corpus.notes:
                self.tell(sentence)

        def extract() -> list[Store]:
            own = {"sources": self.sources, "progress": self.progress, "tell": tell}
            return [
                self.extract(
                    pair.corpus,
                    encoder=name,
                    **{**self.extract_options, **own, "out": self.path(pair, name), "level": self.level(pair, name)},
                )
                for name in pair.names
            ]

        return self.attempt(str(pair), extract)

    def fit_pair(self, pair: Pair, stores: Sequence[Store] | None) -> list[RunRecord]:
        """Fit everything of a corpus and an encoder."""
        if str(pair) in self.missing:
            return []
        found = [
            self.attempt(what, partial(self.fit_step, pair, mode, head, stores)) or []
            for what, mode, head in self.steps(pair)
        ]
        return [record for records in found for record in records]

    def fit_step(
        self, pair: Pair, mode: str, head: str | None, stores: Sequence[Store] | None, **changes: Any
    ) -> list[RunRecord]:
        """Fit one head in one mode under all losses.

        Args:
            pair: The corpus and the encoder.
            mode, head: See `fit_heads`.
            stores: What is read in the mode "cached".
            changes: Options in place of the study's.
        """
        options: dict[str, Any] = {"progress": self.progress, "tell": self.tell, **self.fit_options, **changes}
        if mode in ("cached", "frozen") and {"finetune", "lora"} & set(self.modes):
            options = {name: value for name, value in options.items() if name not in ("tuning", "save_encoder")}
        if mode != "cached":
            options |= {"encoders": pair.names, "sources": self.sources}
        return self.fit(
            list(stores or ()) if mode == "cached" else pair.corpus,
            self.losses,
            **{**options, "mode": mode, "heads": None if head is None else [head]},
        )


def known_heads(heads: Sequence[str] | str | None) -> tuple[str | None, ...]:
    """Check the names of heads and their settings; None stands for an encoder's usual one."""
    named = [] if heads is None else as_list(heads)
    for one in (one for head in named for one in expand_head(head)):
        resolve_head(one)
    return tuple(dict.fromkeys(named or [None]))


def known_losses(losses: Sequence[str] | str | None) -> tuple[str, ...] | None:
    """Check the names of losses and their settings."""
    expanded = expand_losses([] if losses is None else as_list(losses))
    for loss in expanded:
        build_loss(loss)
    return tuple(expanded) or None


def known_modes(modes: Sequence[str] | str) -> tuple[str, ...]:
    """Check the names of modes."""
    for mode in as_list(modes):
        if mode not in get_args(Mode):
            raise UnknownNameError(unknown_name("mode", mode, get_args(Mode)))
    return tuple(dict.fromkeys(as_list(modes)))
