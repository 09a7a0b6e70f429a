"""The parts of a study: each corpus with each encoder, and how they are extracted and fitted."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from embedkit.arguments import as_list
from embedkit.checking.table import ReadingTable
from embedkit.corpora.base import Corpus
from embedkit.corpora.opening import as_corpus, rename_corpus
from embedkit.corpora.selection import select
from embedkit.encoders.run_encoders import expand_runs
from embedkit.errors import BusyError, ConfigError, EmbedkitError, FitError, UnknownNameError
from embedkit.extraction.lock import wait_until_free
from embedkit.extraction.report import format_duration
from embedkit.extraction.request import FOLDER, default_path, keep_former_name, work_folder
from embedkit.heads import is_fitted, resolve_heads
from embedkit.losses import build_loss
from embedkit.options.fit import TUNED, TrainingOptions, require_one_named, require_used, unused_options
from embedkit.options.option import declared
from embedkit.options.study import StudyOptions
from embedkit.progress import Progress, Tell
from embedkit.store import Store, open_store
from embedkit.store.noise import noisy_path
from embedkit.study.parts import Part
from embedkit.training.data.cross_corpus import share_classes, usual_labels
from embedkit.training.runs import RunRecord
from embedkit.wording import count_noun, list_words

_T = TypeVar("_T")
Extracted: TypeAlias = Mapping[str, Sequence[Store] | None]
"""The stores of every pair, by its name; None where there are none."""


class Step(NamedTuple):
    """What is fitted of a pair in one go.

    Attributes:
        name: What to call it.
        mode, head: See `fit_heads`; without a head the encoder's usual one.
        loss: The one loss, where it shares nothing with the others and they may be other parts'; None for all.
        tested: On what: the corpus itself, all others, or each by what was trained on all others.
    """

    name: str
    mode: str
    head: str | None
    loss: str | None = None
    tested: Literal["itself", "others", "each"] = "itself"


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
        options: What `fit` takes, for several modes and heads.
        extract, fit: What extracts and fits.
        extract_options: Further options of the extraction.
        sources: Of the encoders.
        progress, tell: How the user hears of it.
        pairs: What is extracted and fitted, once the corpora are opened.
        classes: The classes of a cross-corpus study, where they are not given.
        missing: What failed, and why.
        single: Whether there is one part alone, whose failure is the study's.
        own: The names of the steps that are done here; None for all.

    Raises:
        ConfigError, UnknownNameError: a head, a loss or a mode that cannot be used.
        FitError: an option that means nothing in any of the modes.
    """

    options: StudyOptions
    extract: Callable[..., Store]
    fit: Callable[..., list[RunRecord]]
    extract_options: Mapping[str, Any]
    sources: Mapping[str, str]
    progress: Progress | bool | None
    tell: Tell
    pairs: list[Pair] = field(default_factory=list)
    classes: list[str] | None = None
    missing: dict[str, str] = field(default_factory=dict)
    single: bool = False
    own: Collection[str] | None = None

    def __post_init__(self) -> None:
        for head in self.options.head or ():
            resolve_heads(head)
        for loss in self.options.loss or ():
            build_loss(loss)
        require_used(self.options, self.modes)

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes, each once."""
        return tuple(dict.fromkeys(self.options.mode))

    @property
    def heads(self) -> tuple[str | None, ...]:
        """The heads, each once; None for an encoder's usual one."""
        return tuple(dict.fromkeys(self.options.head or (None,)))

    @property
    def part(self) -> Part | None:
        """Which part of the study is done here; None for all of it."""
        return None if self.options.part is None else Part.read(self.options.part)

    @property
    def layers(self) -> str:
        """The layers that are encoded."""
        return "all" if self.options.layers == "each" else self.options.layers

    def open(self, corpora: Any) -> list[Pair]:
        """Open the corpora; what cannot be opened is left out.

        Raises:
            ConfigError: two corpora of one name.
            FitError: a cross-corpus study of too few corpora, or of corpora that share too few labels.
        """
        opened: dict[str, Corpus] = {}
        require_one_named(self.options.corpus_name, len(as_list(corpora)))
        counts = [len(as_list(corpora)), len(self.options.encoder), len(self.heads), len(self.modes)]
        self.single = math.prod(counts) == 1
        for source in as_list(corpora):
            found = self.attempt(str(source), partial(as_corpus, source))
            if found is None:
                continue
            name = self.options.corpus_name
            found = keep_former_name(found, self.options.stores) if name is None else rename_corpus(found, name)
            known = opened.setdefault(found.name, found)
            if (known.root, known.kind) != (found.root, found.kind):
                raise ConfigError(
                    f"Two corpora are called {found.name!r} ({str(known.root)!r} and {str(found.root)!r}), but stores "
                    "and runs go by that name; rename one, or give each a study of its own."
                )
        for note in dict.fromkeys(note for corpus in opened.values() for note in (*corpus.notes, *corpus.unread)):
            self.tell(note)
        expanded = {name: tuple(expand_runs([name], self.tell)) for name in self.options.encoder}
        if self.options.cross:
            self._share_classes(list(opened.values()))
        self.pairs = [Pair(corpus, *encoder) for corpus in opened.values() for encoder in expanded.items()]
        return self.pairs

    def _share_classes(self, corpora: Sequence[Corpus]) -> None:
        """Choose the classes that all corpora of a cross-corpus study have, and say which those are."""
        least = 3 if self.options.all_others else 2
        if len(corpora) < least:
            lost = f" ({self.list_missing()})" if self.missing else ""
            flag = "--all-others" if self.options.all_others else "--cross"
            raise FitError(f"The option {flag} needs at least {least} corpora, found {len(corpora)}{lost}; name more.")
        if self.options.targets or self.options.classes is not None:
            return
        labels = {one.name: [utterance.label for utterance in one.utterances] for one in corpora}
        usual = {one.name: usual_labels(labels[one.name], one.task.merge, one.task.classes) for one in corpora}
        self.classes = share_classes(usual, "write their labels alike, or leave a corpus out")
        self.tell(f"All corpora have {list_words(self.classes)}; utterances of other classes are left out.")

    def others(self, pair: Pair) -> list[Pair]:
        """Return the other corpora with a pair's encoder."""
        return [one for one in self.pairs if one.encoder == pair.encoder and one is not pair]

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
        path = self.options.stores / default_path(pair.corpus.name, name).relative_to(FOLDER)
        return path if self.layers == "all" else path.with_stem(f"{path.stem}-layers-{self.layers}")

    def used(self, pair: Pair, name: str) -> Corpus:
        """Choose the utterances that are encoded: those that the heads use, and what the store holds already.

        A filter of a column that stores alone have is left to the fit.
        """
        try:
            wanted = {one.id for one in select(pair.corpus, self.options.where).utterances}
        except UnknownNameError:
            return pair.corpus
        path = self.path(pair, name)
        if path.exists() and self.options.where:
            with open_store(path) as store:
                wanted |= set(store.column("id").tolist())
        return replace(pair.corpus, utterances=tuple(one for one in pair.corpus.utterances if one.id in wanted))

    def level(self, pair: Pair, name: str) -> str | None:
        """Choose what is kept: what the store keeps already, else what the heads need."""
        path = self.path(pair, name)
        if "level" in self.extract_options:
            return str(self.extract_options["level"])
        if path.exists():
            return "both" if open_store(path).has_frames else "utterance"
        heads = [one for head in self.heads if head is not None for one in resolve_heads(head)]
        return "both" if any(one.cls.level == "frame" for one in heads) else None

    def steps(self, pair: Pair) -> Iterator[Step]:
        """Yield what is fitted of a pair; of a study in parts each loss by itself where it trains by itself."""
        for mode in self.modes:
            for head in self.heads:
                for loss in self._losses_apart(mode, head):
                    for tested, title in self._tests(pair, mode):
                        words = [title, head, mode if mode != "cached" else None, loss]
                        step = Step(", ".join(filter(None, words)), mode, head, loss, tested)
                        if self.own is None or step.name in self.own:
                            yield step

    def _tests(self, pair: Pair, mode: str) -> Iterator[tuple[Literal["itself", "others", "each"], str]]:
        """Yield what is tested by heads of a pair, and what that is called; "each" belongs to an encoder's first."""
        yield "itself", str(pair)
        if self.options.cross and mode == "cached":
            yield "others", f"{pair} tested on the others"
            if self.options.all_others and pair is next(one for one in self.pairs if one.encoder == pair.encoder):
                yield "each", f"all others with {pair.encoder}"

    def _losses_apart(self, mode: str, head: str | None) -> Sequence[str | None]:
        framed = head is not None and all(one.cls.level == "frame" for one in resolve_heads(head))
        apart = self.part is not None and (framed or mode in TUNED)
        return (self.options.loss if apart else None) or (None,)

    def take(self, own: Collection[str], seconds: float) -> None:
        """Do no more than some steps from here on, and say so.

        Args:
            own: Their names.
            seconds: How long they take; 0 where that was not measured.
        """
        self.own = frozenset(own)
        told = f", about {format_duration(seconds)}" if seconds else ""
        self.tell(f"Part {self.part}: {count_noun(len(own), 'step')}{told}.")
        for name in own:
            self.tell(f"  {name}")
        if not own:
            self.tell("There are fewer steps than parts, so this one has nothing to do.")

    def extract_pair(self, pair: Pair) -> list[Store] | None:
        """Extract a corpus with an encoder; None where it fails, or stores are not needed.

        What another part extracts at the moment is waited for.
        """
        own = any(step.mode == "cached" for step in self.steps(pair))
        if not own and all(step.tested == "itself" for other in self.others(pair) for step in self.steps(other)):
            return None

        def tell(sentence: str) -> None:
            if sentence not in pair.corpus.notes and not isinstance(sentence, ReadingTable):
                self.tell(sentence)

        def extract() -> list[Store]:
            machine = {"device": self.options.device, "threads": self.options.threads}
            default = {"device": "auto", "threads": None}
            given = {
                **self.extract_options,
                **{name: value for name, value in machine.items() if value != default[name]},
                **({} if self.layers == "all" else {"layers": self.layers}),
                "sources": self.sources,
                "progress": self.progress,
                "tell": tell,
            }
            stores = []
            for name in pair.names:
                path, corpus = self.path(pair, name), self.used(pair, name)
                own = {**given, "encoder": name, "level": self.level(pair, name)}
                stores.append(self._extract_once(corpus, **{**own, "out": path}))
                for snr in self.options.noise_snr:
                    noise = {"noise_snr": snr, "noise": self.options.noise}
                    noisy = noisy_path(path, snr, self.options.noise)
                    self._extract_once(corpus, **{**own, **noise, "out": noisy})
            return stores

        return self.attempt(str(pair), extract)

    def _extract_once(self, corpus: Corpus, *, out: Path, **given: Any) -> Store:
        try:
            return self.extract(corpus, out=out, **given)
        except BusyError as error:
            if self.part is None:
                raise
            self.tell(f"Waiting for another part. {error}")
            wait_until_free(work_folder(out))
            return self._extract_once(corpus, out=out, **given)

    def fit_pair(self, pair: Pair, stores: Extracted) -> list[RunRecord]:
        """Fit everything of a corpus and an encoder."""
        if str(pair) in self.missing:
            return []
        found = [self.attempt(step.name, partial(self.fit_step, pair, step, stores)) or [] for step in self.steps(pair)]
        return [record for records in found for record in records]

    def fit_step(self, pair: Pair, step: Step, stores: Extracted, **changes: Any) -> list[RunRecord]:
        """Fit one head in one mode under all losses, or the step's one.

        Args:
            pair: The corpus and the encoder.
            step: What is fitted.
            stores: What is read in the mode "cached", by the names of pairs.
            changes: Options in place of the study's.
        """
        mode, head = step.mode, step.head
        unused = unused_options(self.options, mode)
        shared = {name: getattr(self.options, name) for name in declared(TrainingOptions) if name not in unused}
        layers = self.options.layers if (self.options.layers == "each") == (mode == "cached") else "all"
        # A loss is for the heads that are trained, where there are any beside those that are fitted.
        fitted = [one for one in self.heads if one is not None and is_fitted(one)]
        own = head in fitted and len(fitted) < len(self.heads)
        running = {} if mode == "cached" else {"encoder": pair.names, "sources": self.sources}
        read = list(stores.get(str(pair)) or ())
        others = [store for other in self.others(pair) for store in stores.get(str(other)) or ()]
        if step.tested != "itself" and not others:
            raise FitError("No other corpus is there to test on or to train on.")
        if step.tested == "others":
            shared |= {"folds": None, "test_on": others}
        elif self.options.cross:
            # The rows of one corpus have nothing to be told apart by.
            shared |= {"standardise_by": "together"} if step.tested == "itself" else {}
        if step.tested == "each":
            read, shared = [*read, *others], {**shared, "folds": "corpus", "pool": True, "noise_snr": (), "noise": None}
        if self.classes is not None:
            shared |= {"classes": self.classes}
        return self.fit(
            read if mode == "cached" else pair.corpus,
            **{
                **shared,
                "progress": self.progress,
                "tell": self.tell,
                "mode": mode,
                "head": None if head is None else (head,),
                "layers": layers,
                **running,
                **({"loss": None} if own else {"loss": (step.loss,)} if step.loss else {}),
                **({"corpus_name": None} if mode == "cached" else {}),
                **changes,
            },
        )
