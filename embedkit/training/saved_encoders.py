"""Encoders that a run has trained, in folders that `extract --encoder` reads."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from embedkit.encoders.run_encoders import tuned_folder
from embedkit.encoders.sources import CARD_FILE
from embedkit.training.data.folds import Fold, Indices
from embedkit.training.data.leakage import past_trainings
from embedkit.training.experiment import Experiment
from embedkit.training.experiment_record import run_cache, run_folder
from embedkit.training.identity import record_options
from embedkit.training.live.fine_tuner import FineTuner
from embedkit.writing import new_folder


class EncoderFolders:
    """Writes the encoder of every fold and seed, with a card of what it was trained on.

    Args:
        experiment: Whose run it is.
        tuner: Holds the encoder as it is to be written.
    """

    def __init__(self, experiment: Experiment, tuner: FineTuner) -> None:
        self.experiment, self.tuner = experiment, tuner

    def save(self, fold: Fold, seed: int) -> None:
        """Write the encoder as it is now.

        Raises:
            RunError: the folder cannot be written.
        """
        if self.tuner.processes.rank != 0:
            return
        number = [one.name for one in self.experiment.data.plan.folds].index(fold.name)
        folder = tuned_folder(run_cache(self.experiment).folder, number, seed)
        with new_folder(folder, otherwise="choose another --runs") as partial:
            self.tuner.save(partial)
            card = self._card(fold, number, seed)
            told = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
            (partial / CARD_FILE).write_text(told, encoding="utf-8", newline="\n")
            (partial / "README.md").write_text(_model_card(card), encoding="utf-8", newline="\n")

    def _card(self, fold: Fold, number: int, seed: int) -> dict[str, Any]:
        experiment, data = self.experiment, self.experiment.data
        train, develop = fold.validations[0]

        def speakers(index: Indices) -> list[str]:
            return [str(name) for name in np.unique(data.task.speakers[index]) if name]

        return {
            "format": "embedkit-encoder",
            "base": {key: data.store.encoder.get(key) for key in ("name", "source", "revision", "weights_digest")},
            "tuning": record_options(self.tuner.options)["tuning"],
            "head": experiment.head,
            "loss": experiment.loss.spec,
            "seed": seed,
            "trained_on": {
                "corpus": data.store.corpus,
                "study": run_folder(experiment).name,
                "base": data.store.path.stem,
                "folds": data.plan.kind,
                "speaker_dependent": data.plan.speaker_dependent,
                "fold": fold.name,
                "fold_number": number,
                "seed": seed,
                "speakers": speakers(train),
                "development_speakers": speakers(develop),
                "utterances": [str(name) for name in data.task.ids[train]],
                "development_utterances": [str(name) for name in data.task.ids[develop]],
                "digests": data.recordings[train].tolist(),
                "development_digests": data.recordings[develop].tolist(),
                "before": past_trainings(data.store.trained_on),
            },
        }


def _model_card(card: dict[str, Any]) -> str:
    seen = card["trained_on"]
    base = card["base"]
    return (
        f"# {base['name']}, trained end to end by embedkit\n\n"
        f"- Base: {base['source']}{'@' + base['revision'] if base['revision'] else ''}\n"
        f"- Trained on: {len(seen['utterances'])} utterances of {seen['corpus']} "
        f"({len(seen['speakers'])} speakers: {', '.join(seen['speakers'])})\n"
        f"- Chosen on: {len(seen['development_utterances'])} utterances "
        f"(speakers {', '.join(seen['development_speakers'])})\n"
        f"- Not seen: the test set of fold {seen['fold']!r} by {seen['folds']}\n"
        f"- Loss {card['loss']}, head {card['head']}, mode {card['tuning']['mode']}, seed {card['seed']}\n\n"
        f"All utterance ids are in `{CARD_FILE}`. What it makes of speakers it has seen says nothing about new ones.\n"
    )
