"""Test heads that were trained on clean recordings on noisy ones of the same test sets: nothing is trained anew."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from embedkit.errors import FitError, RunError
from embedkit.heads import resolve_head
from embedkit.progress import Tell
from embedkit.store.noise import noisy_path
from embedkit.store.reader import open_store
from embedkit.training.cross_validation import FoldResult, repeat_seeds
from embedkit.training.data.features import Features, Standardiser
from embedkit.training.data.folds import Indices
from embedkit.training.data.source import Source
from embedkit.training.data.store_source import StoreSource
from embedkit.training.data.targets import Scale
from embedkit.training.data.task import TaskData
from embedkit.training.experiment import Experiment
from embedkit.training.experiment_record import run_config, run_folder
from embedkit.training.monitor import tell_score
from embedkit.training.recorded import head_state
from embedkit.training.results import prediction_rows, summarise
from embedkit.training.runs import RunRecord, digest_of, read_run, write_run
from embedkit.training.selection import Choice
from embedkit.training.stacks.scoring import score_heads
from embedkit.wording import count_noun


@dataclass(frozen=True)
class NoisyTest:
    """One experiment at one level of noise.

    Attributes:
        experiment: What is trained on clean recordings.
        snr: Signal-to-noise ratio in decibels.
        folder: Where the noise was recorded; None for white noise.
        stores: The noisy store that each fold is tested on.
    """

    experiment: Experiment
    snr: float
    folder: str | None
    stores: tuple[StoreSource, ...]

    @classmethod
    def open(cls, experiment: Experiment, snr: float, folder: str | None) -> NoisyTest:
        """Find the noisy stores beside the clean ones.

        Raises:
            FitError: there is none, it was made otherwise, or it does not hold the same recordings.
            StoreError: it is damaged.
        """
        if experiment.layer is not None:
            raise FitError(
                "Noisy recordings are scored by heads on all layers; leave out --layers each or --noise-snr."
            )
        found: dict[Path, StoreSource] = {}
        stores = []
        for clean in _tested(experiment):
            path = noisy_path(clean.path, snr, folder)
            if path not in found:
                found[path] = _open(path, clean, experiment, snr)
            stores.append(found[path])
        return cls(experiment, snr, folder, tuple(stores))

    @property
    def told(self) -> dict[str, Any]:
        """What the run's configuration says of the noise."""
        return {"snr": self.snr, **({} if self.folder is None else {"folder": str(Path(self.folder).absolute())})}

    @property
    def run(self) -> Path:
        """Where the run lies: beside that on clean recordings."""
        clean, noise = run_folder(self.experiment), self.stores[0].extraction["options"]["noise"]
        # Recorded noise is known by its content, wherever it lies.
        config = {**run_config(self.experiment), "noise": {name: noise.get(name) for name in ("snr", "recordings")}}
        return clean.with_name(f"{clean.name.rpartition('-')[0]}-{digest_of(config)}")

    @cached_property
    def digest(self) -> str:
        """Digest of everything that is tested."""
        digests = dict.fromkeys(store.digest for store in self.stores)
        return next(iter(digests)) if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()

    def find_known(self) -> RunRecord | None:
        """Return the run that is there if it tested these heads on exactly these recordings."""
        try:
            record = read_run(self.run)
        except RunError:
            return None
        digests = {"noise_store": self.digest, **self.experiment.data.digests}
        known = {name: record.config.get(name, {}).get("digest") for name in digests}
        return record if known == digests and record.is_whole else None

    def score(self, record: RunRecord) -> RunRecord:
        """Score the heads of the run on clean recordings, and keep that as a run of its own."""
        data, seeds = self.experiment.data.task, self.experiment.options.seed_numbers
        heads = record.load_heads()
        results = self._results(heads, {(one["fold"], one["seed"]): one for one in record.config["choices"]})
        kind = {} if self.folder is None else {"noise": Path(self.folder).name}
        store = {**self.stores[0].describe(self.experiment.data.plan), "digest": self.digest}
        return write_run(
            self.run,
            config={**record.config, "noise": self.told, "noise_store": store},
            metrics={**record.metrics, **summarise(data, results), "noise_snr": self.snr, **kind},
            predictions=prediction_rows(data, results, seeds),
            heads=heads,
        )

    def _results(self, heads: Mapping[str, Tensor], choices: Mapping[tuple[str, int], Any]) -> list[FoldResult]:
        experiment, folds = self.experiment, self.experiment.data.plan.folds
        seeds = experiment.options.seed_numbers
        # Of two corpora the second one is tested.
        offset = len(experiment.data) - len(experiment.data.parts[-1])
        loaded = {store.path: _load(experiment, store) for store in dict.fromkeys(self.stores)}
        results = []
        for number, (fold, store) in enumerate(zip(folds, self.stores, strict=True)):
            # What no seed changes is kept once.
            own = [choices[fold.name, seed] for seed in (seeds[:1] if experiment.fitted else seeds)]
            standardiser = Standardiser(mean=heads[f"{number}/mean"], scale=heads[f"{number}/scale"])
            scale = Scale.load(heads, f"{number}/")
            states = tuple(head_state(heads, number, choice["seed"]) for choice in own)
            outputs = score_heads(
                loaded[store.path],
                [resolve_head(choice["head"]) for choice in own],
                experiment.loss,
                states,
                standardiser,
                fold.test - offset,
                experiment.training_config,
                scale=scale,
            )
            score = f"{experiment.data.task.score_name.lower()}_dev"
            results.append(
                FoldResult(
                    fold=fold,
                    choices=tuple(Choice(candidate=0, epochs=0, score=choice[score]) for choice in own),
                    states=states,
                    standardiser=standardiser,
                    scale=scale,
                    outputs=outputs,
                    temperatures=tuple(float(choice.get("temperature", 1.0)) for choice in own),
                )
            )
        return repeat_seeds(results, len(seeds)) if experiment.fitted else results


def plan_noise(experiments: Sequence[Experiment]) -> list[list[NoisyTest]]:
    """Open what every experiment shall be tested on, at each level of noise.

    Raises:
        FitError, StoreError: a noisy store that is missing or cannot be used.
    """
    return [
        [NoisyTest.open(experiment, snr, experiment.options.noise) for snr in experiment.options.noise_snr]
        for experiment in experiments
    ]


def score_noise(
    planned: Sequence[Sequence[NoisyTest]], records: Sequence[RunRecord], *, overwrite: bool, tell: Tell
) -> list[RunRecord]:
    """Score finished runs on noisy recordings, those that are not scored there already."""
    found = []
    for tests, record in zip(planned, records, strict=True):
        for test in tests:
            known = None if overwrite else test.find_known()
            found.append(known or test.score(record))
            score = tell_score(test.experiment.data.task.score_name, found[-1].metrics)
            again = ", scored before" if known else ""
            tell(f"{test.experiment} at {test.snr:g} dB: {score}{again}")
    return found


def _tested(experiment: Experiment) -> Sequence[Source]:
    """Return the clean source that each fold is tested on."""
    data = experiment.data
    if data.other is not None:
        return [data.other] * len(data.plan.folds)
    return data.store.for_folds(data.plan)


def _open(path: Path, clean: Source, experiment: Experiment, snr: float) -> StoreSource:
    again = f"run embedkit extract with --noise-snr {snr:g}, and the other options of {clean.path}"
    if not path.exists():
        raise FitError(f"There is no store {path} of noisy recordings; {again}.")
    store = StoreSource(open_store(path))
    store.require_undamaged()
    told = store.extraction.get("options", {}).get("noise") or {}
    if told.get("clean") != clean.fingerprint or told.get("snr") != snr:
        raise FitError(f"{path} was not made as {clean.path} with noise at {snr:g} dB; {again} and --overwrite.")
    part = experiment.data.parts[-1]
    rows = _find_rows(store, part)
    if (missing := int(np.sum(rows < 0))) > 0:
        raise FitError(f"{path} lacks {count_noun(missing, 'utterance')} that {clean.path} holds; {again}.")
    digests = clean.audio_digests(), store.audio_digests()
    if digests[0] is not None and digests[1] is not None and np.any(digests[0][part.rows] != digests[1][rows]):
        raise FitError(
            f"{path} holds other recordings than {clean.path} under the same names; {again} and --overwrite."
        )
    return store


def _find_rows(store: StoreSource, part: TaskData) -> Indices:
    """Return the rows of a store that hold the utterances of a task, `[utterances]`; -1 where there is none."""
    places = {name: row for row, name in enumerate(store.column("id").tolist())}
    return np.array([places.get(name, -1) for name in part.ids.tolist()], dtype=np.int64)


def _load(experiment: Experiment, store: StoreSource) -> Features:
    part, memory = experiment.data.parts[-1], experiment.options.memory_gb
    rows = _find_rows(store, part)
    features = store.features(rows, experiment.level, experiment.device, pool=experiment.pool, memory_gb=memory)
    if experiment.options.normalise == "speaker":
        features.normalise_by(part.speakers)
    return features
