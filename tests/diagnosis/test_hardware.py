"""What is said of devices that are there and cannot be used."""

from __future__ import annotations

import pytest

from embedkit.diagnosis import hardware
from embedkit.diagnosis.hardware import device_rows
from embedkit.diagnosis.rows import Row
from embedkit.diagnosis.trial import Outcome

NO_MPS = {"built": False, "available": False, "reason": None}


def look(*, build: str | None = "13.0", warning: str | None = None, mps: dict[str, object] = NO_MPS) -> dict[str, Row]:
    facts = {"cuda_build": build, "cuda_warning": warning, "cards": [], "mps": mps, "kernels": "AVX2"}
    return {row.name: row for row in device_rows(Outcome(facts=facts), reinstall="pip install torch")}


def test_a_card_that_torch_cannot_use_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_has_nvidia_card", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    row = look(warning="the driver is too old")["cuda"]
    assert (row.state, row.command) == ("broken", "nvidia-smi")
    assert row.problem == "There is an NVIDIA card, but torch cannot use it: the driver is too old."
    row = look(build=None)["cuda"]
    assert (row.state, row.command) == ("note", "pip install torch")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert look()["cuda"].state == "ok"


def test_no_card_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_has_nvidia_card", lambda: False)
    assert look()["cuda"].found == "none (torch is built for CUDA 13.0)"
    assert look(build=None)["cuda"].found == "none (torch is built without CUDA)"
    assert look()["mps"].found == "none"


@pytest.mark.parametrize(("reason", "state"), [(None, "ok"), ("RuntimeError: no", "broken")])
def test_mps_is_tried(reason: str | None, state: str) -> None:
    row = look(mps={"built": True, "available": True, "reason": reason})["mps"]
    assert (row.state, row.problem) == (state, reason and f"The device mps does not compute: {reason}.")


def test_devices_that_crash_torch_are_told_by_cuda() -> None:
    cpu, cuda, mps = device_rows(Outcome(reason="its process ended with status 139"), reinstall="")
    assert (cpu.state, cuda.state, mps.state) == ("ok", "broken", "ok")
    assert cuda.problem == "torch cannot tell which devices there are: its process ended with status 139."


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("avx2 avx512f avx512_bf16 amx_tile amx_bf16", "AVX2, AVX-512; bf16 by AVX-512, AMX; AMX"),
        ("avx2", "AVX2; no bf16; no AMX"),
        ("", "instructions unknown"),
    ],
)
def test_instructions_of_the_cpu(flags: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.system, "read_cpu_flags", lambda: frozenset(flags.split()))
    monkeypatch.setattr(hardware.system, "name_cpu", lambda: "A CPU")
    assert look()["cpu"].found == f"A CPU; {told}"
