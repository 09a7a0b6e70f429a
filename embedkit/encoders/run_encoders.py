"""Encoders that a run has trained: where they lie, and which of them stand for the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embedkit.encoders.layout import CONFIG_FILE, EMOTION2VEC_FILE, WEIGHT_FILES
from embedkit.encoders.sources import CARD_FILE, VGGISH_FILE
from embedkit.progress import Tell

FOLDER = "encoders"
"""Below a run: one folder for each fold and seed."""

SAVED = ((CONFIG_FILE, WEIGHT_FILES[0]), (VGGISH_FILE,), (EMOTION2VEC_FILE,))
"""What encoders are loaded from, by how they are saved; the first file of each tells the way."""


def tuned_folder(run: Path, number: int, seed: int) -> Path:
    """Return where a run keeps the encoder that was trained in a fold, given by its number, under a seed."""
    return run / FOLDER / f"fold-{number}-seed-{seed}"


def is_whole_encoder(folder: Path) -> bool:
    """Tell whether the card of a trained encoder, and what it is loaded from, are in its folder."""
    return any(all((folder / name).is_file() for name in (CARD_FILE, *files)) for files in SAVED)


def find_folders(run: str | Path) -> list[Path]:
    """Return the encoder folders of a run, by seed and then by fold."""
    folder = Path(run) / FOLDER
    found = [path for path in folder.glob("fold-*-seed-*") if (path / CARD_FILE).is_file()]
    return sorted(found, key=lambda path: [int(part) for part in path.name.split("-") if part.isdigit()][::-1])


def expand_runs(encoders: Sequence[str], tell: Tell) -> list[str]:
    """Put the encoders of its folds, those of the first seed, in the place of every run."""
    expanded: list[str] = []
    for name in encoders:
        folders = find_folders(name)
        seeds = {path.name.rpartition("-")[2] for path in folders}
        own = [path for path in folders if path.name.endswith(f"-seed-{min(seeds, key=int)}")]
        if len(seeds) > 1:
            tell(
                f"{name} holds encoders of {len(seeds)} seeds: taking the first; name folders below it for the others."
            )
        expanded += [str(path) for path in own] or [name]
    return expanded
