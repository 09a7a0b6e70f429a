"""Every page runs: its commands and its code, in order, in a folder of tiny corpora and checkpoints."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.main import get_command
from typer.testing import CliRunner

import embedkit
from embedkit.cli import app
from embedkit.config import read_config
from embedkit.encoders import vggish
from embedkit.encoders.published import PUBLISHED
from embedkit.registry import Registry
from embedkit.training.runs import find_runs
from embedkit.workflows import demo
from tests.documents import write_world
from tests.encoders.test_vggish import SMALL
from tests.pages import DOCUMENTS, ROOT, Block, read_blocks, shell_commands
from tests.site import build_site, find_broken_links, find_unfindable

SETTINGS = """
[encoders]
vggish = "vggish.pth"

[extract]
threads = 1
workers = 1

[fit]
seeds = 1
epochs = 2
lr = [0.02]
batch-size = 8
threads = 1
"""

BEFORE: dict[str, tuple[str, ...]] = {
    "README.md": (
        "embedkit extract path/to/emodb --encoder hubert",
        "embedkit extract path/to/ravdess --encoder hubert",
    ),
    "adding-a-head.md": ("embedkit extract path/to/emodb --encoder hubert",),
    "adding-a-loss.md": ("embedkit extract path/to/emodb --encoder hubert",),
    "export.md": ("embedkit extract path/to/emodb --encoder hubert", "embedkit fit --loss ce"),
    "modes.md": ("embedkit extract path/to/emodb --encoder whisper-base",),
    "python.md": ("embedkit extract path/to/emodb --encoder hubert --level both",),
    "security.md": ("embedkit extract path/to/emodb --encoder mfcc", "embedkit fit --loss ce"),
    "tracking.md": ("embedkit extract path/to/emodb --encoder mfcc",),
    "report.md": (
        "embedkit extract path/to/emodb --encoder hubert",
        "embedkit fit --loss ce,focal",
        "embedkit fit --loss ce --layers each",
    ),
}
"""What a page takes for granted."""


IN_ALL: Callable[[Registry], list[str]] = Registry.names_in_all.fget

LONG = dict.fromkeys(("emodb.md", "gallery.md", "replication.md"), (pytest.mark.heavy,))
"""Pages whose commands take a minute or more even in small."""


@dataclass
class Page:
    """What came of a page: what its commands printed, and the names that its last Python block left."""

    printed: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    names: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return folder


@pytest.fixture
def _users_folder(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with everything that pages name; names of encoders stand for tiny checkpoints."""
    for path in world.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "embedkit.toml").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("EMBEDKIT_CACHE", str(world / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    # Completion is installed for the shell that pytest was started from, and there may be none.
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "bash"))
    monkeypatch.setattr(vggish, "VggishShape", lambda: SMALL)
    monkeypatch.setattr(demo, "ENCODERS", ("mfcc",))
    monkeypatch.setattr(demo, "HEADS", ("linear",))
    # In `tests/test_study.py` "all" stands for all of them.
    monkeypatch.setattr(Registry, "names_in_all", property(lambda known: IN_ALL(known)[:2]))
    for checkpoint in (world / "weights").iterdir():
        monkeypatch.setitem(PUBLISHED, checkpoint.name, str(checkpoint))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_study"]:
        del sys.modules[name]


def run_page(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Page:
    page = Page()
    for command in BEFORE.get(path.name, ()):
        run_command(command, page, monkeypatch)
    for block in read_blocks(path):
        if block.reason is not None:
            continue
        if block.language == "sh":
            for command in shell_commands(block):
                run_command(command, page, monkeypatch)
        elif block.language == "python":
            page.names = run_code(block, path)
            page.printed.append(capsys.readouterr().out)
        elif block.language == "toml":
            read_shown_config(block)
    return page


def run_command(command: str, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command as the shell would; what pip would install must be extras that there are."""
    command, _, target = (part.strip() for part in command.partition(" > "))
    program, *arguments = shlex.split(re.sub(r"runs/[\w/.-]+-[0-9a-f]{8}", _find_run, command), comments=True)
    if program == "export":
        monkeypatch.setenv(*arguments[0].split("=", 1))
    elif program == "pip":
        require_extras(arguments)
    else:
        assert program == "embedkit", command
        result = CliRunner().invoke(app, arguments, prog_name="embedkit", catch_exceptions=False)
        assert result.exit_code == 0, f"{command}\n{result.output}"
        page.printed.append(result.stdout)
        page.told.append(result.stderr)
        if target:
            Path(target).write_text(result.stdout)


def _find_run(shown: re.Match[str]) -> str:
    """Put a run that is there, with its encoders if one has kept them, in the place of the one shown."""
    return str(max(Path().glob(shown[0][:-8] + "?" * 8), key=lambda run: (run / "encoders").is_dir()))


def require_extras(arguments: list[str]) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in re.findall(r"\[(.+?)\]", " ".join(arguments)):
        assert set(extra.split(",")) <= set(known)


def run_code(block: Block, path: Path) -> dict[str, Any]:
    """Save a block where the page says, else run it."""
    names: dict[str, Any] = {}
    if block.name is not None:
        Path(block.name).parent.mkdir(exist_ok=True)
        Path(block.name).write_text(block.text)
    else:
        exec(compile(block.text, path.name, "exec"), names)  # noqa: S102
    return names


def read_shown_config(block: Block) -> None:
    folder = Path("shown")
    folder.mkdir(exist_ok=True)
    (folder / "embedkit.toml").write_text(block.text)
    shown = tomllib.loads(block.text)
    config = read_config(folder)
    assert all(len(config.options(name)) == len(shown[name]) for name in ("extract", "fit", "study") if name in shown)


def check_heads(page: Page) -> None:
    assert sum("one by one" in told for told in page.told) == 2
    assert len(find_runs("runs")) == 3


def check_losses(page: Page) -> None:
    assert sum("one by one" in told for told in page.told) == 3
    assert len(find_runs("runs")) == 5


def check_augmentations(page: Page) -> None:
    found = {record.config["tuning"]["augment"][0]["name"] for record in find_runs("runs")}
    assert found == {"my_study.augmentations:quieter", "my_study.augmentations:Dropouts"}


def check_encoder(page: Page) -> None:
    store = embedkit.open_store("embeddings/emodb/my_study.encoders-LogEnergy.h5")
    assert (len(store), store.dimensions, store.layers) == (16, 8, (0,))
    waveform, _ = soundfile.read(Path("path/to/corpus") / store.column("path")[3], dtype="float32")
    power = np.abs(np.fft.rfft(waveform[: len(waveform) // 320 * 320].reshape(-1, 320))) ** 2
    expected = np.log(np.maximum(power[:, 1:].reshape(-1, 8, 20).mean(-1), 1e-10))
    np.testing.assert_allclose(store.mean()[3], expected.mean(0), rtol=2e-3, atol=2e-3)


def check_corpus(page: Page) -> None:
    store = embedkit.open_store("embeddings/mine/mfcc.h5")
    assert store.ids.tolist() == sorted(path.stem for path in Path("path/to/folder").iterdir())
    assert store.labels.tolist() == ["anger", "neutral", "sadness"] * 2
    assert set(store.speakers) == {"anna", "ben"}
    assert store.task["classes"] == ["anger", "neutral", "sadness"]


def check_doctor(page: Page) -> None:
    assert "torch, torchaudio and transformers do " in page.printed[0]


def check_export(page: Page) -> None:
    (found,) = embedkit.predict("classifier", ["my.wav"])
    lines = [line for told in page.printed for line in told.splitlines()]
    (shown,) = (line for line in lines if line.startswith("{'") and "np." not in line)
    assert found.probabilities == pytest.approx(ast.literal_eval(shown), abs=1e-5)


def check_python(page: Page) -> None:
    assert len(page.names["dataset"]) == 16
    assert "torch.Size([8, 64])" in page.printed[-1]
    assert "torch.Size([8, 24, 64]) [24, 24, 24, 24, 24, 24, 24, 24]" in page.printed[-1]


def check_readme(page: Page) -> None:
    assert page.names["X"].shape[0] == len(page.names["y"]) == 16
    assert set(page.names["y"]) == {"anger", "sadness"}
    assert "emodb: UAR in %, 2 classes, folds by speaker" in page.printed[-1]


def check_replication(page: Page) -> None:
    repeated = [record for record in find_runs("runs") if record.config["corpus"].startswith("iemocap-")]
    assert len(repeated) == 4 * 5
    assert all(record.metrics["folds"] == "split" and record.metrics["speaker_dependent"] for record in repeated)


CHECKS: dict[str, Callable[[Page], None]] = {
    "README.md": check_readme,
    "adding-a-corpus.md": check_corpus,
    "adding-a-head.md": check_heads,
    "adding-a-loss.md": check_losses,
    "adding-an-augmentation.md": check_augmentations,
    "adding-an-encoder.md": check_encoder,
    "doctor.md": check_doctor,
    "export.md": check_export,
    "python.md": check_python,
    "replication.md": check_replication,
}


@pytest.mark.slow
@pytest.mark.usefixtures("_users_folder")
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=LONG.get(path.name, ())) for path in DOCUMENTS if read_blocks(path)],
    ids=lambda path: path.name,
)
def test_the_page_runs(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = run_page(path, monkeypatch, capsys)
    if path.name in CHECKS:
        CHECKS[path.name](page)


def test_the_blocks_that_are_not_run_are_few_and_say_why() -> None:
    left_out = [block for path in DOCUMENTS for block in read_blocks(path) if block.reason is not None]
    assert {block.text.splitlines()[0].split(" path/")[0] for block in left_out} == {
        "python3 -m venv .venv && source .venv/bin/activate",
        "pip install '.[test]' && pytest",
        "accelerate launch --num_processes 4 -m embedkit fit",
        "embedkit fit",
        "pip install '.[ray]'",
        "#!/bin/bash",
        "export RAY_ADDRESS=HEAD:6379",
        "embedkit try runs/emodb/hubert/linear/ce-1a2b3c4d",
        "hf auth login",
        "embedkit evaluate",
        "uv venv && source .venv/bin/activate",
        "pip wheel . --wheel-dir wheels",
    }
    shown = {block.language for path in DOCUMENTS for block in read_blocks(path)}
    assert shown == {"sh", "python", "toml", "text"}


def test_the_site_is_built_and_needs_no_network(tmp_path: Path) -> None:
    for needed in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(needed, reason="the site needs the extra docs")
    site = tmp_path / "site"
    assert build_site(site) == ""
    assert not [*find_broken_links(site), *find_unfindable(site)]
    pages = {path.stem: path.read_text(encoding="utf-8") for path in site.glob("*.html")}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} | {"commands"} <= set(pages)
    for name in get_command(app).commands:  # type: ignore[attr-defined]
        assert f"<code>embedkit {name}</code></h2>" in re.sub(r"<a class=\"headerlink.*?</a>", "", pages["commands"])
    for name in embedkit.__all__:
        assert name == "__version__" or f'id="embedkit.{name}"' in pages["library"]
    assert "train_share" in pages["library"]


@pytest.mark.parametrize(
    ("typed", "offered"), [("embedkit ex", "extract export"), ("embedkit fit --mode f", "frozen finetune")]
)
def test_the_shell_completes(typed: str, offered: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "embedkit"],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "_EMBEDKIT_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(typed.count(" ")),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == offered.split()


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.parent.name == "docs"], ids=lambda path: path.name)
def test_the_places_named_exist(path: Path) -> None:
    for part in re.findall(r"`(embedkit/[\w/.]+|docs/[\w/.-]+|tests/[\w/.]+)`", path.read_text(encoding="utf-8")):
        assert (ROOT / part).exists(), part
