"""What is installed, what stands at the top level, and what the package promises by name."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import embedkit

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    with zipfile.ZipFile(path) as wheel:
        return wheel.namelist()


def test_the_wheel_puts_only_embedkit_into_site_packages(wheel_names: list[str]) -> None:
    assert {name.split("/")[0] for name in wheel_names} == {
        "embedkit",
        f"embedkit_speech-{embedkit.__version__}.dist-info",
    }


def test_the_wheel_holds_every_module_and_the_type_marker(wheel_names: list[str]) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "embedkit").rglob("*.py")}
    assert modules | {"embedkit/py.typed"} <= set(wheel_names)
    assert any(name.endswith("licenses/LICENSE") for name in wheel_names)


def test_the_top_level_has_a_launcher_and_a_link() -> None:
    assert os.readlink(ROOT / "heads") == "embedkit/heads"
    assert not (ROOT / "cli.py").is_symlink()
    assert len((ROOT / "cli.py").read_text().splitlines()) <= 6


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("embedkit", {"torch", "numpy", "typer", "rich", "h5py"}),
        ("embedkit.cli.application", {"torch", "numpy", "soundfile", "h5py"}),
    ],
)
def test_importing_the_package_and_showing_help_cost_nothing(module: str, absent: set[str]) -> None:
    code = f"import sys, {module}; assert not {absent} & set(sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", embedkit.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(embedkit, name)
    assert name in dir(embedkit)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="fitt"):
        embedkit.fitt  # type: ignore[attr-defined]  # noqa: B018


def test_ci_runs_the_command_of_the_readme() -> None:
    command = "pip install '.[test]' && pytest"
    assert command in (ROOT / ".ci" / "run").read_text()
    assert command in (ROOT / "README.md").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_what_is_said_of_the_project_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {project['version']}\n" in citation
    assert f"name: {project['authors'][0]['name']}\n" in citation
    pythons = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert project["requires-python"] == f">={pythons[0]}"
    workflow = (ROOT / ".github/workflows/tests.yml").read_text()
    assert f"python: {json.dumps(pythons)}\n" in workflow


def test_bug_reports_are_asked_for_what_doctor_says() -> None:
    assert "embedkit doctor" in (ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text()


def test_the_changelog_knows_the_version_or_has_unreleased_changes() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in changelog or f"## [{version}]" in changelog
