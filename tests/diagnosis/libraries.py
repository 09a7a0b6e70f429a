"""Libraries that load at once, crash, hang or are too old, in a folder that comes before site-packages."""

from __future__ import annotations

from pathlib import Path

from embedkit.diagnosis.probe import module_name
from embedkit.diagnosis.project import read_project

TORCH = """
import contextlib
from types import SimpleNamespace as Space

class Tensor:
    def __init__(self, device): self.device = device
    def sum(self): return self
    def item(self):
        if self.device == "cuda:1":
            raise RuntimeError("CUDA error: no kernel image is available\\nCompile with ...")
        return 2.0

def ones(count, device): return Tensor(device)
def get_num_threads(): return 3

version = Space(cuda="13.0")
cuda = Space(
    is_available=lambda: CARDS > 0,
    device_count=lambda: CARDS,
    device=lambda number: contextlib.nullcontext(),
    get_device_name=lambda number: "Accelerator [80GB]",
    get_device_properties=lambda number: Space(total_memory=85_000_000_000),
    mem_get_info=lambda: (80_000_000_000, 85_000_000_000),
    is_bf16_supported=lambda including_emulation: True,
)
backends = Space(
    mps=Space(is_built=lambda: False, is_available=lambda: False),
    cpu=Space(get_cpu_capability=lambda: "AVX2"),
)
"""
HEAVY = ("torch", "torchaudio", "transformers", "scikit-learn", "librosa")


def write_libraries(folder: Path, *, cards: int = 0) -> Path:
    """Write stand-ins for what takes long to load and for all extras, in the oldest versions that do."""
    project = read_project()
    for one in {*project.required, *(part for parts in project.extras.values() for part in parts)}:
        oldest = next(str(bound.version) for bound in one.specifier if bound.operator == ">=")
        if one.name in HEAVY or (one not in project.required and one.name != "pyyaml"):
            write_library(folder, one.name, version=oldest)
    write_library(folder, "torch", TORCH.replace("CARDS", str(cards)), version="2.14.1+cu130")
    write_library(folder, "torchaudio", "import torch", version="2.11.1")
    write_library(folder, "transformers", "import torch", version="5.24.0")
    (folder / "transformers/audio_utils.py").write_text(
        "import importlib.util\nif importlib.util.find_spec('torchaudio'):\n    import torchaudio\n"
    )
    (folder / "transformers/models/hubert").mkdir(parents=True)
    (folder / "transformers/models/hubert/modeling_hubert.py").touch()
    return folder


def write_library(folder: Path, name: str, code: str = "", *, version: str = "1.0") -> None:
    """Write a distribution with one module, in place of the one of this name."""
    for old in folder.glob(f"{name.replace('-', '_')}-*.dist-info"):
        (old / "METADATA").unlink()
        old.rmdir()
    module = folder / module_name(name)
    module.mkdir(parents=True, exist_ok=True)
    (module / "__init__.py").write_text(code)
    write_metadata(folder, name, version)


def write_metadata(folder: Path, name: str, version: str) -> None:
    """Write what tells that a distribution is installed."""
    place = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nAuthor: Somebody\n")
