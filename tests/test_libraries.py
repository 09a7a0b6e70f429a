"""transformers beside libraries that cannot be imported: they are hidden from it, which is said once."""

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import transformers

from embedkit import libraries
from embedkit.encoders import load_encoder
from embedkit.errors import EncoderError
from embedkit.libraries import load_transformers, mend, muted
from tests.cases import mark_cases
from tests.encoders.checkpoints import write_checkpoint, write_conv_checkpoint, write_whisper_checkpoint

ROOT = Path(__file__).parent.parent
UNDEFINED = "_torchaudio.abi3.so: undefined symbol: aoti_torch_library_init"
BROKEN = {
    "an undefined symbol": {"__init__": "import torchaudio._extension", "_extension": f"raise OSError({UNDEFINED!r})"},
    "a missing module": {"__init__": "import torchaudio._extension\nimport torchaudio._gone", "_extension": ""},
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    spectrogram = transformers.ASTModel(transformers.ASTConfig(**shape, max_length=128, num_mel_bins=32))
    write_checkpoint(folder / "ast", spectrogram)
    transformers.ASTFeatureExtractor(max_length=128, num_mel_bins=32).save_pretrained(folder / "ast")
    return [
        write_conv_checkpoint(folder / "hubert", "hubert"),
        write_whisper_checkpoint(folder / "whisper"),
        folder / "ast",
    ]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = ["path,speaker,label"]
    for number in range(4):
        noise = np.random.default_rng(number).normal(size=16_000) / 10
        soundfile.write(tmp_path / f"{number}.wav", noise, 16_000)
        rows.append(f"{number}.wav,s{number % 2},{'ab'[number // 2]}")
    (tmp_path / "corpus.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "corpus.csv"


def write_library(folder: Path, name: str, modules: dict[str, str]) -> Path:
    (folder / name).mkdir(parents=True)
    for module, code in modules.items():
        (folder / name / f"{module}.py").write_text(code + "\n")
    return folder


def extract(
    corpus: Path, *encoders: Path | str, first: Path | None = None, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    named = [part for encoder in encoders for part in ("--encoder", str(encoder))]
    path = [str(ROOT)] if first is None else [str(first), str(ROOT)]
    return subprocess.run(
        [sys.executable, "-m", "embedkit", "extract", str(corpus), *named, *options],
        capture_output=True,
        text=True,
        cwd=corpus.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        check=False,
    )


@pytest.mark.parametrize(
    "modules", mark_cases(BROKEN.values(), lambda modules: UNDEFINED in str(modules)), ids=list(BROKEN)
)
def test_encoders_run_beside_a_torchaudio_that_cannot_be_imported(
    modules: dict[str, str], checkpoints: list[Path], corpus: Path, tmp_path: Path
) -> None:
    result = extract(corpus, *checkpoints, first=write_library(tmp_path / "first", "torchaudio", modules))
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == len(checkpoints)
    said = [line for line in result.stderr.splitlines() if "torchaudio" in line]
    assert len(said) == 1, result.stderr
    assert said[0].startswith("torchaudio ")
    assert "encoders run without it" in said[0]
    assert "pip install" in said[0]
    if modules is BROKEN["an undefined symbol"]:
        assert UNDEFINED in said[0]


@pytest.mark.heavy
def test_the_workers_of_a_cluster_are_guarded_and_their_sentence_is_told_once(
    checkpoints: list[Path], corpus: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    first = write_library(tmp_path / "first", "torchaudio", BROKEN["an undefined symbol"])
    result = extract(
        corpus, checkpoints[0], first=first, options=("--engine", "ray", "--threads", "1", "--shard-seconds", "1")
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("encoders run without it") == 1, result.stderr


def test_what_needs_no_transformers_says_nothing(corpus: Path, tmp_path: Path) -> None:
    first = write_library(tmp_path / "first", "torchaudio", BROKEN["an undefined symbol"])
    write_library(tmp_path / "first", "transformers", {"__init__": "raise ImportError('broken')"})
    result = extract(corpus, "mfcc", first=first)
    assert result.returncode == 0, result.stderr
    assert "torchaudio" not in result.stderr
    assert "transformers" not in result.stderr


@pytest.mark.heavy
def test_a_broken_torchvision_does_no_harm_either(checkpoints: list[Path], corpus: Path, tmp_path: Path) -> None:
    code = "raise RuntimeError('operator torchvision::nms does not exist')"
    first = write_library(tmp_path / "first", "torchvision", {"__init__": code})
    result = extract(corpus, checkpoints[0], first=first)
    assert result.returncode == 0, result.stderr
    assert "torchvision::nms does not exist); encoders run without it" in result.stderr
    assert "pip uninstall torchvision" in result.stderr


@pytest.mark.heavy
def test_a_torchaudio_that_is_not_there_is_not_missed(checkpoints: list[Path], tmp_path: Path) -> None:
    # A finder that finds nothing: as if it were not installed.
    code = (
        "import importlib.abc, logging, sys\n"
        "class Gone(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] == 'torchaudio':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Gone())\n"
        "from embedkit.libraries import hide_broken_libraries\n"
        "assert not hide_broken_libraries()\n"
        "sys.meta_path.pop(0)\n"
        "sys.modules['torchaudio'] = None\n"
        "from embedkit.encoders import load_encoder\n"
        "load_encoder(sys.argv[1])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(checkpoints[0])],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_in_library_use_the_sentence_is_said_once(checkpoints: list[Path], tmp_path: Path) -> None:
    first = write_library(tmp_path / "first", "torchaudio", BROKEN["an undefined symbol"])
    code = (
        "import sys\nfrom embedkit.encoders import load_encoder\nfor folder in sys.argv[1:]:\n    load_encoder(folder)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, checkpoints[:2])],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(first), str(ROOT)])},
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "")
    assert [line.partition(" ")[0] for line in result.stderr.splitlines()] == ["torchaudio"]


@pytest.mark.parametrize(
    ("code", "found"),
    mark_cases(
        [
            ("raise ImportError('huggingface-hub>=1.0 is required')", "huggingface-hub>=1.0 is required"),
            ("__version__ = '4.57.1'\nclass AutoConfig: pass", "too old"),
            ("__version__ = '5.0.0'", "AutoConfig"),
        ],
        lambda code, found: found == "too old",
    ),
)
def test_a_transformers_that_cannot_be_used_gets_one_sentence(
    code: str, found: str, checkpoints: list[Path], corpus: Path, tmp_path: Path
) -> None:
    result = extract(
        corpus, checkpoints[0], first=write_library(tmp_path / "first", "transformers", {"__init__": code})
    )
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: transformers ")
    assert found in line
    assert "pip install 'transformers>=5.16,<6'" in line


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ("2.11.0", "pip install --force-reinstall --no-deps torchaudio==2.11.0"),
        ("2.12.1+cpu", "pip install --force-reinstall --no-deps torchaudio==2.11.0"),
        ("2.14.1", "pip install --force-reinstall --no-deps 'torchaudio>=2.11.1,<2.12'"),
        ("2.10.0", "pip install 'torch>=2.13,<2.16' 'torchaudio>=2.11.1,<2.12'"),
        ("2.16.0.dev1", "pip install 'torch>=2.13,<2.16' 'torchaudio>=2.11.1,<2.12'"),
    ],
)
def test_the_command_that_mends_a_pair_fits_this_torch(
    release: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "_version", lambda name: release)
    assert mend("torchaudio") == command


def test_the_bounds_that_are_named_are_the_projects() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f'"{bound}"' in project for bound in libraries.WORKING_PAIR)
    assert f'"{libraries.WORKING_TRANSFORMERS}"' in project
    assert ".".join(map(str, libraries.OLDEST_TRANSFORMERS)) in libraries.WORKING_TRANSFORMERS


def test_what_is_muted_becomes_entries(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.INFO, "embedkit")
    with muted("transformers"):
        logging.getLogger("transformers.modeling_utils").warning("a report")
        warnings.warn("a deprecation", FutureWarning, stacklevel=1)
        print("a line")
    assert capfd.readouterr() == ("", "")
    assert [record.levelname for record in caplog.records] == ["INFO"] * 3
    for said in ("a report", "a deprecation", "a line"):
        assert said in caplog.text


def test_parts_of_transformers_are_found_by_name(checkpoints: list[Path]) -> None:
    assert load_transformers("AutoModel") is transformers.AutoModel
    with pytest.raises(EncoderError, match=r"transformers .* cannot be used .*NoSuchModel"):
        load_transformers("NoSuchModel")
    assert load_encoder(str(checkpoints[2])).identity()["family"] == "audio-spectrogram-transformer"
