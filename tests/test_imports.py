"""The user's own modules: found in the current folder by their name, and nothing else there ever is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedkit.errors import CodeError, UnknownNameError
from embedkit.imports import find_own, has_word, leave_current_folder, take_word, take_word_of
from embedkit.registry import load_own
from tests.training.stores import write_synthetic_store

ROOT = Path(__file__).parents[1]
PART = "def part(scores, targets):\n    return ((scores - 1) ** 2).mean()\n"
TRAP = "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("embedkit.imports._WORD", {})
    known = set(sys.modules)
    path, finders = list(sys.path), list(sys.meta_path)
    yield
    assert (path, finders) == (sys.path, sys.meta_path)
    for name in [one for one in set(sys.modules) - known if one.startswith("zz_")]:
        del sys.modules[name]


def write(name: str, text: str = PART) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


@pytest.mark.parametrize(
    ("file", "target"),
    [
        ("zz_one.py", "zz_one:part"),
        ("zz_folder/losses.py", "zz_folder.losses:part"),
        ("zz_package/__init__.py", "zz_package:part"),
        ("zz_deep/a/b.py", "zz_deep.a.b:part"),
    ],
)
def test_a_name_that_was_typed_is_found_in_the_current_folder(file: str, target: str) -> None:
    write(file)
    with pytest.raises(CodeError, match="--allow-code zz_"):
        load_own(target)
    take_word(target)
    assert find_own(target) == str(Path(file).absolute())
    assert load_own(target).__name__ == "part"


def test_modules_of_a_package_find_each_other() -> None:
    write("zz_pair/first.py", "from zz_pair.second import part\n")
    write("zz_pair/second.py")
    take_word("zz_pair.first:part")
    assert load_own("zz_pair.first:part")


def test_what_lies_beside_is_not_imported_and_the_sentence_says_what_to_do() -> None:
    write("zz_beside.py", "from zz_helper import part\n")
    write("zz_helper.py", TRAP + PART)
    take_word("zz_beside:part")
    with pytest.raises(UnknownNameError, match=r"'zz_helper' lies beside it.*put both into one package"):
        load_own("zz_beside:part")
    assert not Path("zz_helper.ran").exists()


def test_what_is_installed_is_not_hidden() -> None:
    write("colorsys.py", TRAP)
    take_word("colorsys:rgb_to_hsv")
    assert load_own("colorsys:rgb_to_hsv")(0, 0, 0) == (0, 0, 0)
    assert not Path("colorsys.ran").exists()


def test_only_options_that_name_parts_are_words_and_no_file_that_a_star_stands_for() -> None:
    write("zz_star:part")
    take_word_of({"head": ("zz_a:H:width=2", "linear"), "audio": ["zz_b:H"], "corpus": "zz_c:read:x", "seed": 3})
    take_word_of({"inputs": [Path("zz_star:part")], "encoder": "mfcc+zz_d.e:E"})
    names = ["zz_a:H", "zz_b:H", "zz_c:read", "zz_star:part", "zz_d.e:E"]
    assert [has_word(name) for name in names] == [True, False, True, False, True]


@pytest.mark.parametrize(("entry", "stays"), [("", False), (".", True)])
def test_the_current_folder_leaves_the_path_unless_the_user_put_it_there(
    entry: str, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([entry, "/elsewhere"]))
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [str(tmp_path), "", *sys.path])
        leave_current_folder()
        assert (str(tmp_path) in sys.path) == ("" in sys.path) == stays
    assert os.environ["PYTHONSAFEPATH"] == "1"


TRAPS = ("lz4", "winreg", "coverage", "numpy", "torch", "h5py", "yaml", "soundfile", "peft", "triton", "my_other")


@pytest.mark.parametrize("start", [["-m", "embedkit"], ["embedkit-script"]])
def test_what_lies_in_the_current_folder_is_not_run(tmp_path: Path, start: list[str]) -> None:
    for name in TRAPS:
        write(f"{name}.py", TRAP)
    write("zz_mine.py")
    write_synthetic_store(tmp_path / "tiny.h5", noise=0.5)
    scripts = tmp_path / "bin"
    scripts.mkdir()
    (scripts / "embedkit-script").write_text("from embedkit.cli import main\nmain()\n")
    command = [sys.executable, *(str(scripts / one) if one.endswith("script") else one for one in start)]
    budget = "--loss zz_mine:part --seeds 1 --epochs 1 --lr 1e-2 --folds session --threads 1"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "fit", "tiny.h5", *budget.split()], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.ran"))
