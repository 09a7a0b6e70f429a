"""The commands that install what is missing or too old, and another author's package of the same name."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from typer.testing import CliRunner

from embedkit import installation
from embedkit.cli import app
from embedkit.errors import ConfigError
from embedkit.installation import DISTRIBUTION, find_conflict, install_command, mend_command
from embedkit.registry import import_extra

ROOT = Path(__file__).parent.parent
OTHER = "Metadata-Version: 2.4\nName: embedkit\nVersion: 0.1.10\nAuthor-email: A <a@b.c>\n"
OLD = "Metadata-Version: 2.4\nName: embedkit\nVersion: 0.1.0\nAuthor: The embedkit authors\n"


def write_distribution(folder: Path, name: str, version: str = "1.0", **files: str) -> None:
    """Write what an installer leaves of a package beside its modules."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(files.pop("METADATA", f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n"))
    for file, text in files.items():
        (info / file.replace("direct_url", "direct_url.json")).write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.mark.parametrize("name", ["plain", "with a space", "it's", 'a "b" $HOME `c`'])
@pytest.mark.parametrize(
    ("installer", "editable", "start"),
    [("pip", False, ["pip"]), ("pip", True, ["pip"]), ("uv", False, ["uv", "pip"]), ("uv", True, ["uv", "pip"])],
)
def test_an_installation_from_a_folder_names_the_folder(
    site: Path, tmp_path: Path, name: str, installer: str, editable: bool, start: list[str]
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    direct = {"url": folder.as_uri(), "dir_info": {"editable": True} if editable else {}}
    write_distribution(site, DISTRIBUTION, direct_url=json.dumps(direct), INSTALLER=f"{installer}\n")
    flags = ["-e"] if editable else []
    assert shlex.split(install_command("ray")) == [*start, "install", *flags, f"{folder}[ray]"]
    assert shlex.split(mend_command())[-len(flags) - 1 :] == [*flags, str(folder)]


@pytest.mark.parametrize("url", [None, "https://example.org/x.zip", "file:///no/such/folder"])
def test_any_other_installation_names_the_distribution(site: Path, url: str | None) -> None:
    write_distribution(site, DISTRIBUTION, **({"direct_url": json.dumps({"url": url})} if url else {}))
    assert install_command("ray") == "pip install 'embedkit-speech[ray]'"


def test_what_is_not_installed_names_its_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", find_nothing)
    assert shlex.split(install_command("onnx")) == ["pip", "install", f"{ROOT}[onnx]"]
    monkeypatch.setattr(installation, "CHECKOUT", tmp_path)
    assert install_command("onnx") == "pip install 'embedkit-speech[onnx]'"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "a-study"\n')
    assert install_command("onnx") == "pip install 'embedkit-speech[onnx]'"


def test_windows_quotes_as_its_shells_do(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a b").mkdir()
    write_distribution(site, DISTRIBUTION, direct_url=json.dumps({"url": (tmp_path / "a b").as_uri()}))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        assert install_command("ray") == f'pip install "{tmp_path / "a b"}[ray]"'


def test_commands_are_written_in_one_place() -> None:
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in (ROOT / "embedkit").rglob("*.*")
        if path.parent.name != "__pycache__"
    }
    assert [path for path, text in texts.items() if re.search(r"pip install|embedkit(-speech)?\[", text)] == []


def test_pages_install_nothing_of_another_author() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / ".github").rglob("*.yml")]
    wrong = r"(?<!-)\bembedkit\[|(?<!un)install '?embedkit\b(?!-speech)"
    assert [path.name for path in pages if re.search(wrong, path.read_text(encoding="utf-8"))] == []


def test_extras_that_are_named_exist() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        extra
        for path in (ROOT / "embedkit").rglob("*.py")
        for extra in re.findall(r'extra="(\w+)"', path.read_text(encoding="utf-8"))
    }
    assert named == set(known) - {"docs", "test"}


@pytest.mark.parametrize("installed", [False, True])
def test_an_extra_that_is_too_old_says_what_was_found_and_expected(
    site: Path, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_distribution(site, "peft", "0.2.0")
    (site / "peft.py").write_text("raise RuntimeError('not to be imported')")
    wanted = "peft>=0.15"
    if installed:
        wanted = "peft<0.8,>=0.7"
        requires = f"Requires-Dist: {wanted}; extra == 'finetune'\nRequires-Dist: peft>=9; extra == 'other'\n"
        write_distribution(site, DISTRIBUTION, METADATA=f"Name: {DISTRIBUTION}\nVersion: 1.0\n{requires}")
        monkeypatch.setattr(installation, "CHECKOUT", site)
    said = f"Adapters needs {wanted}, and 0.2.0 is installed; run {install_command('finetune')}, or wait."
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
        import_extra("peft", extra="finetune", needed_by="Adapters", error=ConfigError, otherwise="wait")


def test_an_extra_that_does_not_load_is_one_sentence(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "opensmile.py").write_text("raise ImportError('no\\nlibcairo.')")
    monkeypatch.delitem(sys.modules, "opensmile", raising=False)
    with pytest.raises(ConfigError, match=r"needs opensmile, which cannot be imported \(no libcairo\); run "):
        import_extra("opensmile", extra="opensmile", needed_by="eGeMAPS", error=ConfigError)


def test_a_command_whose_extra_is_too_old_exits_with_one(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_distribution(site, "ray", "2.9.3")
    (site / "ray.py").touch()
    (tmp_path / "a.wav").touch()
    (tmp_path / "corpus.csv").write_text("path,label,speaker\na.wav,low,s1\n")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["extract", "corpus.csv", "--encoder", "mfcc", "--engine", "ray"])
    assert (done.exit_code, done.stdout) == (1, "")
    said = (
        f"--engine ray needs ray>=2.40, and 2.9.3 is installed; run {install_command('ray')}, or take --engine local."
    )
    assert done.stderr.splitlines()[-1] == f"Error: {said}"


@pytest.mark.parametrize(("other", "version"), [(OTHER, "0.1.10"), (OLD, None)])
def test_an_early_release_of_ours_is_not_another_author(site: Path, other: str, version: str | None) -> None:
    write_distribution(site, "embedkit", METADATA=other)
    write_distribution(site, DISTRIBUTION)
    assert getattr(find_conflict(), "version", None) == version


def write_other_wheel(folder: Path) -> Path:
    """Write a wheel of a package `embedkit` that has two modules where ours has them."""
    files = {
        "embedkit/__init__.py": "class EmbedKit: ...\n",
        "embedkit/config.py": "KEY = 1\n",
        "embedkit/providers.py": "",
        "embedkit-0.1.10.dist-info/METADATA": OTHER,
        "embedkit-0.1.10.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{name},sha256={_digest(text)},{len(text)}" for name, text in files.items()]
    files["embedkit-0.1.10.dist-info/RECORD"] = "\n".join([*rows, "embedkit-0.1.10.dist-info/RECORD,,"]) + "\n"
    path = folder / "embedkit-0.1.10-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


class Environment:
    """A virtual environment with pip; what runs in it finds dependencies of embedkit in that of the tests."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True, symlinks=True)
        self.bin = folder / "bin"
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "outer.pth").write_text("import os, sys; sys.path += filter(None, [os.environ.get('OUTER')])\n")
        self._variables = {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "EMBEDKIT_CACHE": str(folder / "cache"),
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def run(self, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, shell=True, env={**self._variables, **variables}, capture_output=True, text=True, check=False
        )

    def list_losses(self) -> tuple[int, str]:
        done = self.run("embedkit list losses", OUTER=sysconfig.get_path("purelib"))
        assert ("focal" in done.stdout) == (done.returncode == 0), done.stderr
        return done.returncode, done.stderr


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform == "win32", reason="files of a virtual environment lie elsewhere")
def test_beside_the_other_package_the_first_command_says_what_mends_it(tmp_path: Path) -> None:
    (ours,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    other = write_other_wheel(tmp_path)
    environment = Environment(tmp_path / "environment")
    assert environment.run(f"pip install {other} {ours}").returncode == 0
    assert environment.run(f"pip install --force-reinstall {ours}").returncode == 0

    code, said = environment.list_losses()
    assert (code, said.count("\n")) == (0, 1)
    assert "Another author's package embedkit 0.1.10 is installed" in said
    assert environment.list_losses() == (0, "")

    assert environment.run(f"pip install --force-reinstall {other}").returncode == 0
    for _ in range(2):
        code, said = environment.list_losses()
        assert (code, said.count("\n")) == (1, 1)
        assert re.match(r"Error: Another author's .* overwrote files of this one \(embedkit/__init__.py, emb", said)

    mend = re.search(r"run (pip uninstall .*)\.$", said.strip())
    assert mend is not None
    mended = environment.run(mend[1])
    assert mended.returncode == 0, mended.stderr
    assert environment.list_losses() == (0, "")
