"""What the machine is: devices, threads, memory, disks. Read without torch, but for what torch said in its process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from embedkit import system
from embedkit.diagnosis.rows import Row
from embedkit.diagnosis.trial import Outcome
from embedkit.wording import format_bytes

SHOWN = ("CUDA_VISIBLE_DEVICES", "HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "TRANSFORMERS_OFFLINE")
NAMED = ("EMBEDKIT_CACHE", "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "LD_LIBRARY_PATH", "PYTHONPATH", "RAY_ADDRESS")
"""Variables that change what happens; of these the values, addresses and folders, are nobody's business."""

_LOOK = "nvidia-smi"
"""Shows the driver, the cards, and who uses them."""
_INSTRUCTIONS = {"avx2": "AVX2", "avx512f": "AVX-512", "asimd": "NEON", "sve": "SVE"}
_BF16 = {"avx512_bf16": "AVX-512", "amx_bf16": "AMX", "bf16": "Arm"}


def program_rows() -> list[Row]:
    """Describe Python, the system, and the variables that are set."""
    python, named_system = f"{system.name_python()}, {sys.executable}", system.name_system()
    values = {name: os.environ[name] for name in SHOWN if os.environ.get(name)}
    named = [name for name in NAMED if os.environ.get(name)]
    parts = [*(f"{name}={value}" for name, value in values.items()), *([f"set: {', '.join(named)}"] if named else [])]
    return [
        Row(
            section="program",
            name="python",
            found=python,
            facts={"version": system.name_python().partition(" ")[0], "executable": sys.executable},
        ),
        Row(
            section="program",
            name="system",
            found=named_system,
            facts={"name": named_system.partition(" ")[0], "text": named_system},
        ),
        Row(
            section="program",
            name="variables",
            found="; ".join(parts) or "none that concern embedkit",
            facts={"values": values, "set": named},
        ),
    ]


def device_rows(outcome: Outcome, *, reinstall: str) -> list[Row]:
    """Describe the CPU, and what torch can use beside it.

    Args:
        outcome: Of the step `devices`.
        reinstall: The command that installs torch again.
    """
    facts = outcome.facts
    if outcome.reason is None:
        return [_cpu_row(facts["kernels"]), *_cuda_rows(facts, reinstall), _mps_row(facts["mps"], reinstall)]
    rows = [_cpu_row(None), *(_device_row(name, "unknown: torch does not load", {}) for name in ("cuda", "mps"))]
    if outcome.needs is None:
        problem = f"torch cannot tell which devices there are: {outcome.reason}."
        rows[1] = _device_row("cuda", "unknown", {}, problem=problem, command=_LOOK)
    return rows


def _device_row(
    name: str, found: str, facts: Mapping[str, Any], *, problem: str | None = None, command: str | None = None
) -> Row:
    row = Row(section="devices", name=name, found=found, facts=facts)
    return row if problem is None else replace(row, state="broken", problem=problem, command=command)


def _mps_row(facts: Mapping[str, Any], reinstall: str) -> Row:
    if facts["reason"] is not None:
        problem = f"The device mps does not compute: {facts['reason']}."
        return _device_row("mps", "does not compute", facts, problem=problem, command=reinstall)
    return _device_row("mps", "computes" if facts["available"] else "none", facts)


def _cpu_row(kernels: str | None) -> Row:
    flags = system.read_cpu_flags()
    instructions = [name for flag, name in _INSTRUCTIONS.items() if flag in flags]
    bf16 = [name for flag, name in _BF16.items() if flag in flags]
    amx = sorted(flag for flag in flags if flag.startswith("amx_"))
    name = system.name_cpu()
    parts = [
        ", ".join(instructions),
        f"bf16 by {', '.join(bf16)}" if bf16 else "no bf16",
        "AMX" if amx else "no AMX",
    ]
    found = "; ".join(filter(None, (name, *(parts if flags else ["instructions unknown"]))))
    facts = {"name": name, "instructions": instructions, "bf16": bf16, "amx": amx, "kernels": kernels}
    return _device_row("cpu", found, facts)


def _cuda_rows(facts: Mapping[str, Any], reinstall: str) -> Iterator[Row]:
    for number, card in enumerate(facts["cards"]):
        name, reason = f"cuda:{number}", card["reason"]
        free = None if card["free_bytes"] is None else f"{format_bytes(card['free_bytes'])} free"
        works = f"{'' if card['bf16'] else 'no '}bf16" if reason is None else "does not compute"
        found = ", ".join(filter(None, (card["name"], format_bytes(card["memory_bytes"]), free, works)))
        problem = f"{name} ({card['name']}) does not compute: {reason}; --device cpu does without it."
        yield _device_row(name, found, card, problem=None if reason is None else problem, command=_LOOK)
    if not facts["cards"]:
        yield _no_card_row(facts["cuda_build"], facts["cuda_warning"], reinstall)


def _no_card_row(build: str | None, warning: str | None, reinstall: str) -> Row:
    facts = {"cuda_build": build, "warning": warning, "card": _has_nvidia_card()}
    if not facts["card"] or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        found = f"none (torch is built {f'for CUDA {build}' if build else 'without CUDA'})"
        return Row(section="devices", name="cuda", found=found, facts=facts)
    reason = f"torch cannot use it: {warning or 'it finds no device'}" if build else "torch is built without CUDA"
    return Row(
        section="devices",
        name="cuda",
        found="a card that torch cannot use",
        state="broken" if build else "note",
        problem=f"There is an NVIDIA card, but {reason}.",
        command=_LOOK if build else reinstall,
        facts=facts,
    )


def _has_nvidia_card() -> bool:
    """Tell whether the system offers a card to this process; containers may keep it away."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def machine_rows(devices: Outcome, cache: Outcome) -> list[Row]:
    """Describe threads, memory and free disk.

    Args:
        devices, cache: How the steps of these names went.
    """
    cores, usable = system.count_all_cores(), system.count_cores()
    torch = devices.facts.get("threads")
    takes = "" if torch is None else f", torch takes {torch}"
    total, free = system.read_memory()
    rows = [
        Row(
            section="machine",
            name="threads",
            found=f"{cores} cores, {usable} for this process{takes}",
            facts={"cores": cores, "usable": usable, "torch": torch},
        ),
        Row(
            section="machine",
            name="memory",
            found=_of(total, free),
            facts={"total_bytes": total, "free_bytes": free},
        ),
    ]
    folders = {"disk here": ".", "disk of cache": cache.facts.get("path")}
    return rows + [_disk_row(name, Path(folder).absolute()) for name, folder in folders.items() if folder is not None]


def _disk_row(name: str, folder: Path) -> Row:
    total, free = system.disk_space(folder)
    facts = {"folder": str(folder), "total_bytes": total, "free_bytes": free}
    return Row(section="machine", name=name, found=_of(total, free), facts=facts)


def _of(total: int, free: int) -> str:
    return f"{format_bytes(total)}, {format_bytes(free)} free"
