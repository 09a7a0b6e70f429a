"""What a study will extract and train, how much of it is there, and roughly how long the rest takes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from embedkit.corpora import Corpus
from embedkit.corpora.selection import choose_utterances
from embedkit.encoders import encoder_label
from embedkit.extraction.compare import compare_corpus
from embedkit.extraction.report import format_duration
from embedkit.extraction.request import work_folder
from embedkit.store import Store, open_store
from embedkit.study.parts import Unit
from embedkit.study.plan import Pair, Step, StudyPlan
from embedkit.study.timing import RuntimeEstimator, training_seconds, tuning_seconds
from embedkit.system import count_cores
from embedkit.training.experiment import Experiment
from embedkit.training.experiment_record import find_known_run
from embedkit.training.runs import RunRecord
from embedkit.training.train import distinct_trainings, plan_rows
from embedkit.wording import count_noun


class StudyForecast:
    """Counts what there is to do, pair by pair, and says so.

    Args:
        parts: The study.
        estimator: Measures.
    """

    def __init__(self, parts: StudyPlan, estimator: RuntimeEstimator) -> None:
        self.parts, self.estimator = parts, estimator
        self.lines: list[str] = []
        self.stores = self.stores_there = self.experiments = self.there = self.heads = 0
        self.before: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self.unknown: list[str] = []
        self.plan: list[str] = []
        self.found: dict[str, list[Store]] = {}

    def look(self, pair: Pair) -> None:
        """Look at the stores of a pair; one that is unavailable is left out from here on."""
        self.parts.attempt(str(pair), partial(self._look, pair))

    def foresee(self, pair: Pair) -> None:
        """Look at what is fitted of a pair, once all stores were; heads that cannot be are left out from here on."""
        if str(pair) in self.parts.missing:
            return
        chosen = self._choose(pair, pair.names[0])
        for step in self.parts.steps(pair):
            self.parts.attempt(step.name, partial(self._foresee_step, pair, step, chosen))

    def weigh(self, pair: Pair, step: Step) -> Unit:
        """Say how long a step takes that was looked at, and the store that it reads."""
        before = self.before.get(str(pair), 0.0) if step.mode == "cached" else 0.0
        return Unit(step.name, str(pair), self.seconds.get(step.name, 0.0), before)

    def tell(self) -> None:
        """Say what there is to do and how long it takes."""
        tell = self.parts.tell
        if not self.experiments:
            return
        fitting = sum(self.seconds.values())
        if self.stores:
            tell(f"Stores: {self.stores_there} of {self.stores} are there.")
        for line in self.lines:
            tell(f"  to extract: {line}")
        what = "Configurations (a corpus, an encoder, a head, a loss and a mode)"
        tell(f"{what}: {self.there} of {self.experiments} are there.")
        if self.heads:
            told = f", about {format_duration(fitting)}" if fitting else ""
            count = count_noun(self.experiments - self.there, "configuration")
            tell(f"  to train: {count}, {self.heads:,} heads{told}")
        if seconds := sum(self.before.values()) + fitting:
            left_out = f", without {' and '.join(self.unknown)}" if self.unknown else ""
            tell(f"In all about {format_duration(seconds)}{left_out}, by a short measurement on this machine.")
        elif not (self.lines or self.heads):
            tell("Nothing to do but the table.")

    def _look(self, pair: Pair) -> None:
        chosen = self._choose(pair, pair.names[0])
        stores: list[Store] = []
        if "cached" in self.parts.modes:
            found = [self._foresee_store(pair, name, self._choose(pair, name)) for name in pair.names]
            stores = [store for store in found if store is not None]
            if len(stores) < len(found):
                name = pair.names[0]
                sample = self.estimator.sample(chosen, name, self.parts.level(pair, name))
                stores = [self.estimator.outline(chosen, sample.store, encoder_label(name))]
        self.found[str(pair)] = stores

    def _choose(self, pair: Pair, name: str) -> Corpus:
        options = self.parts.extract_options
        return choose_utterances(self.parts.used(pair, name), options.get("where", ()), options.get("limit"))[0]

    def _foresee_store(self, pair: Pair, name: str, chosen: Corpus) -> Store | None:
        """Return the store if it holds all utterances."""
        path = self.parts.path(pair, name)
        store = open_store(path) if path.exists() else None
        missing = len(compare_corpus(chosen, store, "skip").missing)
        if store is not None and not missing:
            self.stores, self.stores_there = self.stores + 1, self.stores_there + 1
            return store
        pace = self.estimator.sample(chosen, name, self.parts.level(pair, name)).pace
        count = f"{missing} of {len(chosen.utterances)}" if missing < len(chosen.utterances) else str(missing)
        told = "" if pace is None else f", about {format_duration(pace * missing)}"
        begun = ", begun before" if work_folder(path).exists() else ""
        self.lines.append(f"{chosen.name} with {name}: {count} utterances{told}{begun}")
        self.stores += 1
        self.before[str(pair)] = self.before.get(str(pair), 0.0) + (pace or 0.0) * missing
        if pace is None:
            self.unknown.append(f"the extraction of {chosen.name} with {name}")
        return None

    def _foresee_step(self, pair: Pair, step: Step, chosen: Corpus) -> None:
        experiments: list[Experiment] = []

        def note(found: Sequence[Experiment], *_: Any, **__: Any) -> list[RunRecord]:
            experiments.extend(found)
            return []

        self.parts.fit_step(pair, step, self.found, train=note, tell=lambda _: None, progress=False)
        todo = [
            experiment
            for experiment in experiments
            if self.parts.options.overwrite or find_known_run(experiment) is None
        ]
        self.plan += [f"{one}: {'to train' if one in todo else 'is there'}" for one in experiments]
        self.experiments += len(experiments)
        self.there += len(experiments) - len(todo)
        self.heads += sum(experiment.count_heads() for experiment in distinct_trainings(todo))
        if not todo:
            return
        seconds = 0.0
        if step.mode == "frozen":
            self.unknown.append(f"the mode frozen of {pair}")
        elif step.mode == "cached":
            name = pair.names[0]
            path = self.parts.path(pair, name)
            shape = open_store(path) if path.exists() else self.estimator.sample(chosen, name, None).store
            row = distinct_trainings(plan_rows(todo)[0])
            # Rows of one head differ in their loss or their layer, which hardly changes their time.
            threads = self.parts.options.threads or count_cores()
            seconds = training_seconds(row, shape, threads) * len(distinct_trainings(todo)) / len(row)
        else:
            seconds = tuning_seconds(todo, self.estimator.sample(chosen, pair.names[0], None).pace or 0.0)
        self.seconds[step.name] = seconds
