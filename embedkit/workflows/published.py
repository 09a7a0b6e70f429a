"""Ask a published classifier of clips, as they come."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.corpora.clips import Clip
from embedkit.encoders import ENCODERS, PRETRAINED
from embedkit.encoders.classifiers import OwnForwardEncoder, WholeWindowWhisper, load_classifier
from embedkit.encoders.layout import CONFIG_FILE, find_emotion2vec
from embedkit.encoders.precision import true_fp32
from embedkit.encoders.published import PUBLISHED, TRAINED_ON
from embedkit.encoders.sources import is_repository
from embedkit.errors import AudioError
from embedkit.export.predictor import DESCRIPTION_FILE, find_folder
from embedkit.export.pushed import is_pushed
from embedkit.extraction.encoding import EncodingConfig
from embedkit.extraction.request import BATCH_SECONDS
from embedkit.extraction.streaming import LONGEST_PIECE_SECONDS, ask_clips, choose_passes
from embedkit.progress import Tell
from embedkit.received import read_object
from embedkit.store.writer import UtteranceEmbedding
from embedkit.training.runs import is_run_config


def names_classifier(source: str, sources: Mapping[str, str]) -> bool:
    """Tell a published classifier from the folder of a run, or an exported one, by its name or what lies there.

    A path below a folder that is there is none, though it may look like a Hugging Face id.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return find_emotion2vec(path.parent) is not None
    if path.is_dir():
        if (path / DESCRIPTION_FILE).is_file():
            return False
        try:
            return not is_run_config(read_object(path / CONFIG_FILE))
        except FileNotFoundError:
            return find_emotion2vec(path) is not None
        except (OSError, ValueError):
            return False
    known = source in sources or source in ENCODERS.names_of(PRETRAINED)
    return known or (is_repository(source) and not Path(path.parts[0]).exists())


def find_run(source: str | os.PathLike[str], sources: Mapping[str, str], tell: Tell) -> Path | None:
    """Return the folder of a run or an export, fetched where it lies on the Hub; None for a published classifier.

    Raises:
        EncoderError, RunError: as `fetch_exported`.
    """
    name = os.fspath(source)
    if not names_classifier(name, sources):
        return Path(source)
    encoder = name in sources or name in ENCODERS.names_of(PRETRAINED) or Path(name).expanduser().exists()
    return None if encoder or not is_pushed(name, DESCRIPTION_FILE) else find_folder(name, tell)


class PublishedClassifier:
    """A published classifier, ready to be asked.

    Attributes:
        labels: What its outputs stand for.
        rates: Whether they are ratings.
        unit: Whether ratings lie from 0 to 1.
        trained_on: The corpora it was trained on by its model card; empty where that is not known.
        note: What is to be said of how it hears; empty for the whole of every clip.
    """

    def __init__(self, name: str, *, device: str, precision: str, sources: Mapping[str, str]) -> None:
        source = sources.get(name) or PUBLISHED.get(name) or name
        self.encoder, self.head = load_classifier(name, source, device=device, precision=precision)
        self.labels, self.rates, self.unit = self.head.labels, self.head.rates, self.head.unit
        self.trained_on = TRAINED_ON.get(self.encoder.checkpoint.source, "")
        self.note = ""
        if isinstance(self.encoder, WholeWindowWhisper):
            self.note = f"{name} pads every clip to {self.encoder.heard_seconds:g} s, and hears no more of it."

    def score(
        self,
        clips: Iterable[Clip],
        mapped: Mapping[str, str],
        *,
        max_hours: float,
        rescale: bool = False,
        threads: int | None = None,
        side_by_side: bool = False,
        tell: Tell = lambda _: None,
    ) -> Iterator[NDArray[np.float64] | AudioError]:
        """Yield for each clip its probabilities or ratings by `choose_names`, `[names]`, or why there are none.

        Clips are heard as the model was published to hear them. Of one of more than five minutes, models that hear all
        of it hear equal pieces, and what they say is averaged.
        """
        threads = threads or torch.get_num_threads()
        config = EncodingConfig(
            encoder=self.encoder,
            root=Path(),
            frame_dtype=None,
            windows=None,
            batch_seconds=BATCH_SECONDS[self.encoder.device.type],
            threads=threads,
            passes=choose_passes(self.encoder, threads, side_by_side=side_by_side),
            max_hours=max_hours,
            rescale=rescale,
            digests=False,
        )
        whole = isinstance(self.encoder, OwnForwardEncoder | WholeWindowWhisper)
        most = math.inf if whole else LONGEST_PIECE_SECONDS
        return ask_clips(config, clips, most, partial(self._choose, mapped=mapped), tell)

    def _choose(self, rows: UtteranceEmbedding, mapped: Mapping[str, str]) -> NDArray[np.float64]:
        with true_fp32():
            outputs = self.head(torch.from_numpy(np.asarray(rows.mean, dtype=np.float32))).double()
        kept = outputs[[self.labels.index(label) for label in mapped]]
        shares = kept if self.rates else torch.softmax(kept, dim=-1)
        names = choose_names(mapped)
        totals = torch.zeros(len(names), dtype=torch.float64)
        totals.index_add_(0, torch.tensor([names.index(new) for new in mapped.values()]), shares)
        result: NDArray[np.float64] = totals.numpy()
        return result


def choose_names(mapped: Mapping[str, str]) -> list[str]:
    """Return the classes, or ratings, that labels stand for, each once."""
    return list(dict.fromkeys(mapped.values()))
