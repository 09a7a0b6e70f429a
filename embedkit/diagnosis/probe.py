"""The process in which libraries are tried: what it cannot survive, the process that started it does."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

IMPORTS: Mapping[str, tuple[str, ...]] = {
    "mkdocs-material": ("material",),
    "pyyaml": ("yaml",),
    "scikit-learn": ("sklearn",),
    # The package alone loads nothing: what reads audio, and an encoder.
    "transformers": ("transformers.audio_utils", "transformers.models.hubert.modeling_hubert"),
    "vl-convert-python": ("vl_convert",),
}
"""What to import of a distribution where it is not the module of its name."""

_COUNTING_SECONDS = 5.0
_LONGEST_REASON = 300


def main(orders: str) -> None:
    """Take steps in turn and write a line of JSON about each, until one fails.

    Args:
        orders: JSON: `steps`, names of distributions to import or of `LOOKS`; `hidden`, modules that are kept away.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What libraries print is no answer.
    os.dup2(2, 1)
    asked = json.loads(orders)
    sys.modules.update(dict.fromkeys(asked["hidden"]))
    for name in asked["steps"]:
        start = time.monotonic()
        try:
            found = LOOKS[name]() if name in LOOKS else _load(name)
        except BaseException as error:
            found = _explain(error, asked["hidden"])
        answers.write(json.dumps({"name": name, "seconds": round(time.monotonic() - start, 3), **found}) + "\n")
        answers.flush()
        if "reason" in found:
            break
    # Native threads of libraries have been seen to abort the interpreter's end.
    os._exit(0)


def module_name(distribution: str) -> str:
    """Return the top-level module of a distribution."""
    return IMPORTS.get(distribution, (distribution.replace("-", "_"),))[0].partition(".")[0]


def _load(distribution: str) -> dict[str, Any]:
    for module in IMPORTS.get(distribution, (module_name(distribution),)):
        importlib.import_module(module)
    package = sys.modules[module_name(distribution)]
    if getattr(package, "ffmpeg_major_version", 0) is None:
        raise ImportError("FFmpeg's libraries are not found or cannot be loaded; install FFmpeg first")
    version = getattr(package, "__version__", None)
    return {"version": version if isinstance(version, str) else None}


def _explain(error: BaseException, hidden: list[str]) -> dict[str, Any]:
    """Give the reason in one line, from the error that the others came of; name the hidden module that it wanted."""
    errors = [error]
    while cause := errors[-1].__cause__:
        errors.append(cause)
    wanted = [str(one.name).partition(".")[0] for one in errors if isinstance(one, ModuleNotFoundError)]
    text = next((line.strip() for line in str(errors[-1]).splitlines() if line.strip()), "")
    reason = f"{type(errors[-1]).__name__}: {text}" if text else type(errors[-1]).__name__
    return {"reason": reason[:_LONGEST_REASON], "needs": next((name for name in wanted if name in hidden), None)}


def _look_at_devices() -> dict[str, Any]:
    """Ask torch for devices, and have each of them compute."""
    import warnings

    import torch

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    cards = [_try_card(number) for number in range(torch.cuda.device_count())] if available else []
    mps = {"built": torch.backends.mps.is_built(), "available": torch.backends.mps.is_available()}
    return {
        "cuda_build": torch.version.cuda,
        "cuda_warning": " ".join(str(told[0].message).split())[:_LONGEST_REASON] if told else None,
        "cards": cards,
        "mps": mps | {"reason": _try(lambda: _add("mps")) if mps["available"] else None},
        "threads": torch.get_num_threads(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
    }


def _try_card(number: int) -> dict[str, Any]:
    import torch

    card: dict[str, Any] = {"name": torch.cuda.get_device_name(number), "free_bytes": None, "bf16": None}
    card["memory_bytes"] = torch.cuda.get_device_properties(number).total_memory

    def use() -> None:
        with torch.cuda.device(number):
            _add(f"cuda:{number}")
            card["free_bytes"] = torch.cuda.mem_get_info()[0]
            card["bf16"] = torch.cuda.is_bf16_supported(including_emulation=False)

    return card | {"reason": _try(use)}


def _add(device: str) -> None:
    import torch

    if torch.ones(2, device=device).sum().item() != 2:
        raise ArithmeticError("1 + 1 is not 2 there")


def _try(work: Callable[[], None]) -> str | None:
    try:
        work()
    except Exception as error:
        return str(_explain(error, [])["reason"])
    return None


def _look_at_cache() -> dict[str, Any]:
    """Look at the Hub cache, and whether there is a token; the token is not read."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    from embedkit.encoders.published import PUBLISHED

    cache = Path(constants.HF_HUB_CACHE)
    size, complete = _count_bytes(cache)
    token = Path(constants.HF_TOKEN_PATH)
    return {
        "path": str(cache),
        "exists": cache.is_dir(),
        "writable": os.access(next(folder for folder in (cache, *cache.parents) if folder.exists()), os.W_OK),
        "size_bytes": size,
        "size_is_complete": complete,
        "token": bool(os.environ.get("HF_TOKEN")) or (token.is_file() and token.stat().st_size > 0),
        "encoders": {
            name: _look_at_repository(cache / repo_folder_name(repo_id=source.partition("@")[0], repo_type="model"))
            for name, source in PUBLISHED.items()
        },
    }


def _look_at_repository(folder: Path) -> dict[str, Any]:
    """Return which revisions are here, by their commits: whole ones and parts of one."""
    revisions = {path.name: _is_whole(path) for path in sorted((folder / "snapshots").glob("*"))}
    return {"revisions": revisions, "unfinished": any((folder / "blobs").glob("*.incomplete"))}


def _is_whole(snapshot: Path) -> bool:
    from embedkit.encoders.layout import CONFIG_FILE, EMOTION2VEC_PUBLISHED, WEIGHT_FILES
    from embedkit.received import read_object

    if any((snapshot / file).is_file() for file in EMOTION2VEC_PUBLISHED):
        return True
    weights = next((snapshot / file for file in WEIGHT_FILES if (snapshot / file).is_file()), None)
    if weights is None or not (snapshot / CONFIG_FILE).is_file():
        return False
    try:
        shards = read_object(weights)["weight_map"].values() if weights.suffix == ".json" else ()
        return all((snapshot / shard).is_file() for shard in shards)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _count_bytes(folder: Path) -> tuple[int, bool]:
    """Sum the sizes of the files below a folder, and say whether there was time for all of them."""
    total, end = 0, time.monotonic() + _COUNTING_SECONDS
    for size in _sizes(str(folder)):
        total += size
        if time.monotonic() > end:
            return total, False
    return total, True


def _sizes(folder: str) -> Iterator[int]:
    for parent, _, files in os.walk(folder):
        for file in files:
            try:
                yield os.lstat(os.path.join(parent, file)).st_size
            except OSError:
                continue


LOOKS: Mapping[str, Callable[[], dict[str, Any]]] = {"devices": _look_at_devices, "cache": _look_at_cache}
"""Steps that are no import."""
