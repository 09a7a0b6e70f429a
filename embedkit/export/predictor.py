"""What predicts: the heads of a run, or of a folder that was exported from one, and which encoder they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from embedkit.encoders.sources import is_repository
from embedkit.errors import RunError
from embedkit.heads import expand_head, resolve_head, resolve_heads, widest_pool
from embedkit.heads.base import Pool
from embedkit.progress import Tell
from embedkit.received import describe_pointer, read_object, require_regular
from embedkit.registry import unknown_name
from embedkit.system import safe_name
from embedkit.training.recorded import check_config, check_results, reading
from embedkit.training.runs import CONFIG_FILE, RunRecord, read_run
from embedkit.trust import AllowCode, find_mentions, require_word

FORMAT = "embedkit-predictor"
FORMAT_VERSION = 1
DESCRIPTION_FILE = "predictor.json"
HEADS_FILE = "head.safetensors"

KEPT = (
    "corpus",
    "encoder",
    "head",
    "head_spec",
    "loss",
    "loss_spec",
    "mode",
    "classes",
    "dimensions",
    "layer",
    "normalise",
    "seeds",
    "folds",
    "choices",
    "pooled",
    "store",
)
"""What predicting needs of a run's configuration."""


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """Finished heads and what they read.

    Attributes:
        folder: The run, or the exported folder.
        config: The run's configuration, as far as predicting needs it (`KEPT`).
        tensors: Heads and standardisers by name, as a run keeps them.
        exported: Whether the folder holds the encoder as well.
        heads: The heads whose outputs are averaged: the number of the fold, its name, the seed, the head's settings.
    """

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    exported: bool
    heads: tuple[ChosenHead, ...]

    @property
    def names(self) -> list[str]:
        """Classes, or dimensions, in the order of the outputs."""
        return list(self.config.get("dimensions") or self.config["classes"])

    @property
    def rates(self) -> bool:
        """Whether the outputs are ratings on dimensions, in the unit of the corpus; else they are probabilities."""
        return bool(self.config.get("dimensions"))

    @property
    def level(self) -> str:
        """What the heads read: "utterance" means or "frame"s."""
        return str(resolve_head(self.heads[0].spec).cls.level)

    @property
    def pool(self) -> Pool:
        """What any head of the run's search reads, and all are given."""
        return widest_pool(resolve_heads(self.config["head_spec"]))

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the encoder said of itself when the heads were trained."""
        identity: Mapping[str, Any] = self.config["store"]["encoder"]
        return identity

    @property
    def title(self) -> str:
        """A name for files: corpus, encoder, head and loss."""
        parts = [str(self.config[name]) for name in ("corpus", "encoder", "head", "loss")]
        return safe_name("-".join(parts), default="run")


@dataclass(frozen=True)
class ChosenHead:
    """One head: the number and name of its fold, its seed, its settings, and the temperature of its probabilities."""

    number: int
    fold: str
    seed: int
    spec: str
    temperature: float = 1.0


def open_predictor(
    source: str | Path | RunRecord,
    *,
    fold: str | None = None,
    seed: int | None = None,
    allow_code: AllowCode = (),
    tell: Tell = lambda _: None,
) -> Predictor:
    """Open a run or an exported folder.

    Args:
        source: A run's folder, its record, an exported folder, or what one is called on the Hugging Face Hub.
        fold: Take only the heads of this fold; None for all.
        seed: Take only the heads of this seed; None for all.
        allow_code: Packages of the user's own that it may name parts of.
        tell: Receives what is imported of them.

    Raises:
        CodeError: it names code that is not allowed.
        RunError: neither of them, a damaged one, a fold or seed that it does not have, or a run that was normalised
            by speaker.
    """
    config: Mapping[str, Any]
    source = source if isinstance(source, RunRecord) else find_folder(source, tell)
    exported = not isinstance(source, RunRecord) and (Path(source) / DESCRIPTION_FILE).is_file()
    if not isinstance(source, RunRecord) and exported:
        folder = Path(source)
        config, tensors = _read_description(folder), _read_heads(folder)
    else:
        record = source if isinstance(source, RunRecord) else read_run(source)
        folder, config, tensors = record.folder, record.config, record.load_heads()
    # The name of a corpus is no part.
    parts = {key: value for key, value in config.items() if key != "corpus"}
    require_word(find_mentions(parts, folder / (DESCRIPTION_FILE if exported else CONFIG_FILE)), allow_code, tell)
    _require_whole(folder, config)
    if config.get("normalise"):
        raise RunError(
            f"The run {folder} normalises each speaker by all of their utterances, which single files cannot "
            "give; fit one without --normalise to predict with."
        )
    if config.get("standardise_by"):
        raise RunError(
            f"The run {folder} standardises each corpus by itself, but single files are of none; fit one without "
            "--standardise-by to predict with."
        )
    with reading(folder):
        heads = _choose_heads(folder, config, fold, seed)
    return Predictor(folder=folder, config=config, tensors=tensors, exported=exported, heads=heads)


def find_folder(source: str | Path, tell: Tell = lambda _: None) -> Path:
    """Return the folder of a run or an export; that of `org/name` or `org/name@revision` comes from the Hub.

    Raises:
        EncoderError, RunError: as `fetch_exported`.
    """
    folder, name = Path(source), Path(source).as_posix()
    # A wrong turn in a folder that is there is nothing to ask others for.
    if folder.exists() or not is_repository(name) or Path(folder.parts[0]).is_dir():
        return folder
    from embedkit.export.pushed import fetch_exported

    return fetch_exported(name, (DESCRIPTION_FILE, HEADS_FILE), tell)


def _choose_heads(
    folder: Path, config: Mapping[str, Any], fold: str | None, seed: int | None
) -> tuple[ChosenHead, ...]:
    names, seeds = [str(name) for name in config["folds"]["names"]], list(config["seeds"])
    if fold is not None and fold not in names:
        raise RunError(unknown_name(f"fold of {folder}", fold, names))
    if seed is not None and seed not in seeds:
        raise RunError(f"The run {folder} has no seed {seed}; expected one of {', '.join(map(str, seeds))}.")
    choices = {(str(choice["fold"]), choice["seed"]): choice for choice in config["choices"]}
    specs = {key: choice.get("head", config["head_spec"]) for key, choice in choices.items()}
    default = expand_head(config["head_spec"])[0]
    if resolve_head(default).cls.fitted:
        # No seed changes such a head, and the run keeps it once.
        seed, seeds = None, seeds[:1]
    return tuple(
        ChosenHead(
            number, name, own, specs.get((name, own), default), choices.get((name, own), {}).get("temperature", 1.0)
        )
        for number, name in enumerate(names)
        for own in seeds
        if fold in (None, name) and seed in (None, own)
    )


def _require_whole(folder: Path, config: Mapping[str, Any]) -> None:
    needed = ("head_spec", "loss_spec", "seeds", "folds", "choices", "store")
    missing = next((name for name in needed if name not in config), None)
    if missing is None and not (config.get("classes") or config.get("dimensions")):
        missing = "classes"
    if missing is None and "encoder" not in config["store"]:
        missing = "store.encoder"
    if missing is not None:
        raise RunError(f"The configuration in {folder} lacks {missing!r}; run embedkit fit again with --overwrite.")


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION_FILE
    try:
        config = read_object(path)
        if config["format"] != FORMAT:
            raise ValueError(f"its format is {config['format']!r}")
        check_config(config)
        check_results(config.get("results", {}))
        version = config["format_version"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RunError(f"The file {path} is damaged ({error}); export the run again.") from error
    if version != FORMAT_VERSION:
        raise RunError(f"{path} has format version {version}, this embedkit reads {FORMAT_VERSION}; update it.")
    found: dict[str, Any] = config
    return found


def _read_heads(folder: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        heads: dict[str, Tensor] = load_file(require_regular(folder / HEADS_FILE))
    except (OSError, SafetensorError) as error:
        reason = describe_pointer(folder / HEADS_FILE) or f"{error}; export the run again"
        raise RunError(f"The heads in {folder} cannot be read: {reason}.") from error
    return heads
