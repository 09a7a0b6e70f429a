"""The run folder: configuration, metrics, predictions and heads of one configuration."""

from __future__ import annotations

import csv
import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.cells import write_cell
from embedkit.errors import RunError
from embedkit.received import describe_pointer, read_object, require_regular
from embedkit.showing import draw_rows
from embedkit.training.recorded import check_config, check_curves, check_metrics
from embedkit.wording import count_noun
from embedkit.writing import new_folder, sync_tree

if TYPE_CHECKING:
    from torch import Tensor

RUN_FORMAT_VERSION = 1
CONFIG_FILE = "config.json"
UNFINISHED = ".unfinished"
"""Below the folder of the runs: what is finished of runs that are not."""
ZERO_SHOT = "zero-shot"
"""The mode of runs of published classifiers, which train nothing and have no heads; it stands for their loss, too."""
NOT_SAID = "not said"
"""What a published classifier was trained on where nobody tells."""
_METRICS, _PREDICTIONS, _HEADS = "metrics.json", "predictions.csv", "heads.safetensors"
_CURVES = "curves.json"


@dataclass(frozen=True, kw_only=True, repr=False)
class RunRecord:
    """One finished run: where it lies, how it was configured, and its row of the table."""

    folder: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<Run {self.folder}: {self.score}>"

    def _repr_html_(self) -> str:
        return Runs([self])._repr_html_()

    @property
    def score(self) -> str:
        """Its first score, in words."""
        for name, label, factor, decimals in (("ua", "UAR", 100, 1), ("ccc", "CCC", 1, 3)):
            if name in self.metrics:
                return f"{label} {factor * self.metrics[name]:.{decimals}f}"
        return "no score"

    @property
    def predictions_path(self) -> Path:
        """Return the CSV of per-utterance predictions."""
        return self.folder / _PREDICTIONS

    @property
    def is_whole(self) -> bool:
        """Tell whether predictions and heads are there; its curves came later, and older runs have none."""
        return all((self.folder / name).is_file() for name in (_PREDICTIONS, _HEADS))

    @property
    def is_zero_shot(self) -> bool:
        """Tell whether the run is one of a published classifier."""
        return self.config.get("mode") == ZERO_SHOT

    def load_heads(self) -> dict[str, Tensor]:
        """Read all heads and standardisers of the run.

        Raises:
            RunError: the file is missing or damaged, or the run is one of a published classifier.
        """
        if self.is_zero_shot:
            raise RunError(
                f"The run {self.folder} is of the published classifier {self.config.get('model')}, without heads of "
                "its own; name the classifier itself."
            )
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            heads: dict[str, Tensor] = load_file(require_regular(self.folder / _HEADS))
        except (OSError, SafetensorError) as error:
            reason = describe_pointer(self.folder / _HEADS) or f"{error}; run embedkit fit again with --overwrite"
            raise RunError(f"The heads of {self.folder} cannot be read: {reason}.") from error
        return heads

    def load_curves(self) -> dict[str, Any] | None:
        """Read how its heads learned (see `learning_curves`); None where the run does not keep it.

        Raises:
            RunError: the file is damaged.
        """
        if not (self.folder / _CURVES).is_file():
            return None
        try:
            curves: dict[str, Any] = read_object(self.folder / _CURVES)
            check_curves(curves)
        except (OSError, ValueError) as error:
            raise RunError(
                f"The curves of {self.folder} cannot be read ({error}); run embedkit fit again with --overwrite."
            ) from error
        return curves


class Runs(list[RunRecord]):
    """Runs, as a notebook shows them in a table."""

    def _repr_html_(self) -> str:
        names = ("corpus", "encoder", "head", "loss", "mode")
        rows = [[*(one.metrics.get(name, "") for name in names), one.score, one.folder] for one in self]
        return draw_rows(count_noun(len(self), "run"), [*names, "score", "folder"], rows)


def digest_of(value: Any) -> str:
    """Return a short digest of anything JSON can hold."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def write_run(
    folder: Path,
    *,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    predictions: tuple[Sequence[str], Iterable[Sequence[Any]]],
    heads: Mapping[str, Tensor] | None = None,
    curves: Mapping[str, Any] | None = None,
    folders: Mapping[str, Path] | None = None,
) -> RunRecord:
    """Write a run under a temporary name and rename it when it is whole, replacing an older one.

    Args:
        folder: Where the run shall lie.
        config: Everything that determines the run.
        metrics: Its row of the table.
        predictions: Header and rows of the CSV.
        heads: Tensors by name; None for a run that trains none.
        curves: How the heads learned.
        folders: Folders that move into the run, by name.

    Raises:
        RunError: it cannot be written.
    """
    from safetensors.torch import save_file

    with new_folder(folder, otherwise="choose another --runs") as partial:
        _write_json(partial / CONFIG_FILE, config)
        _write_json(partial / _METRICS, metrics)
        with open(partial / _PREDICTIONS, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerows([write_cell(cell) for cell in row] for row in (predictions[0], *predictions[1]))
        if heads is not None:
            save_file({name: tensor.contiguous() for name, tensor in heads.items()}, partial / _HEADS)
        if curves is not None:
            _write_json(partial / _CURVES, curves)
        # What moves is lost if the run is not written: all else must be safe before.
        sync_tree(partial)
        for name, own in (folders or {}).items():
            own.rename(partial / name)
    return RunRecord(folder=folder, config=dict(config), metrics=dict(metrics))


def is_run_config(config: Mapping[str, Any]) -> bool:
    """Tell the config.json of a run from that of a checkpoint, which names its model_type."""
    return "model_type" not in config


def read_run(folder: str | Path) -> RunRecord:
    """Read a run folder's configuration and metrics.

    Raises:
        RunError: there is no run, or it is damaged or of a newer format.
    """
    folder = Path(folder)
    if not (folder / CONFIG_FILE).is_file():
        raise RunError(
            f"No run at {folder}: expected a folder with {CONFIG_FILE}, as embedkit fit writes it below runs/."
        )
    try:
        config = read_object(folder / CONFIG_FILE)
        metrics = read_object(folder / _METRICS)
        version = config["format_version"]
        check_config(config)
        check_metrics(metrics)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RunError(f"The run {folder} is damaged ({error}); run embedkit fit again with --overwrite.") from error
    if version != RUN_FORMAT_VERSION:
        raise RunError(
            f"The run {folder} has format version {version}, this embedkit reads {RUN_FORMAT_VERSION}; update it."
        )
    return RunRecord(folder=folder, config=config, metrics=metrics)


def require_writable(folder: Path) -> None:
    """Make a folder for runs, so that it is known before anything is trained that they can be kept.

    Raises:
        RunError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(
            f"Runs cannot be kept in {folder} ({error.strerror}); give a folder that can be written to with --runs."
        ) from error


def find_runs(folder: str | Path) -> list[RunRecord]:
    """Read every run below a folder, in sorted order.

    Raises:
        RunError: there is none, or one is damaged or of a newer format.
    """
    return [read_run(path) for path in find_run_folders(folder)]


def find_run_folders(folder: str | Path) -> list[Path]:
    """Return the folder of every run below a folder, in sorted order.

    Raises:
        RunError: there is none.
    """
    folder = Path(folder)
    found = sorted(
        path.parent
        for path in folder.glob(f"**/{CONFIG_FILE}")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and not _lies_in_run(path, folder)
    )
    if not found:
        raise RunError(f"No runs below {folder}; run embedkit fit first or name the folder that holds them.")
    return found


def has_files_of_run(folder: Path) -> bool:
    """Tell a run, perhaps damaged, from other folders with a config.json: by the files that fit writes beside it."""
    return all((folder / name).is_file() for name in (CONFIG_FILE, _METRICS, _PREDICTIONS))


def _lies_in_run(path: Path, folder: Path) -> bool:
    """Tell a trained encoder's config.json from a run's own: it lies below a run."""
    above = [parent for parent in path.parent.parents if parent == folder or folder in parent.parents]
    return any((parent / _METRICS).is_file() for parent in above)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
