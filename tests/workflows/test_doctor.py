"""`embedkit doctor` seen from outside: what is broken is named with what mends it, and never ends the command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from embedkit.cli import app
from embedkit.diagnosis.project import installer
from embedkit.diagnosis.rows import Examination, Row
from embedkit.diagnosis.table import render_examination
from embedkit.encoders.published import PUBLISHED
from embedkit.installation import install_command
from embedkit.workflows import doctor
from tests.diagnosis.libraries import write_libraries, write_library, write_metadata

ROOT = Path(__file__).parents[2]
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"
OTHER = "0123456789abcdef0123456789abcdef01234567"
PIP = installer()
PAIR = f"{PIP} install --force-reinstall 'torch>=2.13,<2.16' 'torchaudio>=2.11.1,<2.12'"


def run_doctor(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command with the libraries in a folder, below a home folder of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "CUDA_"))}
    environment |= {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "HOME": str(folder.parent), "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "embedkit", "doctor", *arguments],
        cwd=folder.parent,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def commands_below(text: str, problem: str) -> str:
    """Return the command that a table gives for a problem, as a shell would read it."""
    after = text[text.index(problem) :]
    found = re.search(r"^    (\S(?:.*\\\n)*.*)", after, flags=re.MULTILINE)
    assert found is not None
    return found[1].replace("\\\n    ", "")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, Path]:
    """JSON, table and home of a machine with cards, a token, and a cache of three encoders."""
    home = tmp_path_factory.mktemp("home")
    folder = write_libraries(home / "libraries", cards=1)
    cache = home / ".cache/huggingface"
    for name, commit in (("hubert", None), ("wavlm", OTHER)):
        repository, _, pinned = PUBLISHED[name].partition("@")
        snapshot = cache / f"hub/models--{repository.replace('/', '--')}/snapshots" / (commit or pinned)
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text("{}")
        (snapshot / "model.safetensors").write_bytes(bytes(1000))
    blobs = cache / f"hub/models--{PUBLISHED['whisper-tiny'].partition('@')[0].replace('/', '--')}/blobs"
    blobs.mkdir(parents=True)
    (blobs / "0123.incomplete").write_bytes(bytes(500))
    (cache / "token").write_text(TOKEN)
    written = run_doctor(folder, "--json")
    assert (written.returncode, written.stderr) == (0, "")
    shown = run_doctor(folder, OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", HF_ENDPOINT="https://secret.example")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "secret.example" not in shown.stdout
    return json.loads(written.stdout), shown.stdout, home


def test_a_machine_on_which_all_works_exits_with_0(healthy: Any) -> None:
    found, table, _ = healthy
    assert found["ok"]
    assert found["format"] == 1
    assert found["libraries"]["torch"]["facts"]["version"] == "2.14.1+cu130"
    assert found["libraries"]["load together"]["facts"] == {"together": True, "failed": []}
    assert found["devices"]["cuda:0"]["found"] == "Accelerator [80GB], 85.0 GB, 80.0 GB free, bf16"
    assert found["machine"]["threads"]["facts"]["torch"] == 3
    assert found["machine"]["memory"]["facts"]["total_bytes"] > found["machine"]["memory"]["facts"]["free_bytes"] > 0
    assert found["extras"]["ray"]["facts"]["versions"] == {"ray": "2.40"}
    assert table.endswith("All that is installed works.\n")
    assert "OMP_NUM_THREADS=1" in table
    assert "HF_ENDPOINT" in table
    assert "off: HF_HUB_OFFLINE set" in table


def test_the_cache_is_told_by_encoder_and_revision(healthy: Any) -> None:
    found, table, _ = healthy
    assert found["hub"]["cache"]["facts"]["size_bytes"] == 2504
    encoders = found["encoders"]
    assert set(encoders) == set(PUBLISHED)
    pinned = {name: source.partition("@")[2][:8] for name, source in PUBLISHED.items()}
    assert encoders["hubert"]["found"] == f"at {pinned['hubert']}, the pinned revision"
    assert encoders["wavlm"]["found"] == f"at 01234567, pinned is {pinned['wavlm']}"
    assert encoders["wavlm"]["command"] == "embedkit extract --encoder wavlm"
    assert encoders["whisper-tiny"]["found"] == "downloaded in part"
    assert [encoders[name]["state"] for name in ("hubert", "wavlm", "whisper-tiny", "whisper-base")] == [
        "ok",
        "note",
        "note",
        "missing",
    ]
    offline = "HF_HUB_OFFLINE=0 TRANSFORMERS_OFFLINE=0 embedkit extract --encoder wavlm"
    assert commands_below(table, "The encoder 'wavlm' lies in the cache at 01234567") == offline


def test_neither_tokens_nor_folders_of_people_are_shown(healthy: Any) -> None:
    found, table, home = healthy
    assert found["hub"]["token"]["facts"] == {"there": True}
    assert found["hub"]["cache"]["facts"]["path"] == "~/.cache/huggingface/hub"
    for text in (json.dumps(found), table):
        assert TOKEN not in text
        assert str(home) not in text


def read_table(text: str) -> dict[str, dict[str, tuple[str, str]]]:
    """Return what a table shows, without spaces, and the state, by section and name."""
    sections: dict[str, dict[str, tuple[str, str]]] = {}
    for line in text.splitlines()[2:]:
        name, found, state = line[2:27].strip(), "".join(line[27:71].split()), line[73:]
        if not line:
            break
        if not line.startswith(" "):
            rows = sections.setdefault(line, {})
        elif name:
            last = name
            rows[last] = (found, state)
        else:
            rows[last] = (rows[last][0] + found, rows[last][1])
    return sections


def test_the_table_is_80_columns_wide_and_all_of_it_is_in_the_json(healthy: Any) -> None:
    found, table, _ = healthy
    assert max(map(len, table.splitlines())) <= 80
    shown = read_table(table)
    written = {section: rows for section, rows in found.items() if isinstance(rows, dict)}
    assert {section: list(rows) for section, rows in shown.items()} == {
        section: list(rows) for section, rows in written.items()
    }
    # The variables of both runs differ, and what is free changes.
    changing = {"variables", "downloads", "memory", "disk here", "disk of cache"}
    for section, rows in written.items():
        for name, row in rows.items():
            assert name in changing or shown[section][name] == ("".join(row["found"].split()), row["state"])
            assert set(row) == {"found", "state", "problem", "command", "facts"}
            assert bool(row["problem"]) <= bool(row["command"])


def test_every_key_is_documented(healthy: Any) -> None:
    page = (ROOT / "docs/doctor.md").read_text()
    for section, rows in healthy[0].items():
        assert f"`{section}`" in page
        for key in {key for row in rows.values() for key in row["facts"]} if isinstance(rows, dict) else ():
            assert f"`{key}`" in page, f"{section}: {key}"


def test_what_is_broken_is_named_with_what_mends_it(tmp_path: Path) -> None:
    folder = write_libraries(tmp_path / "libraries", cards=2)
    reason = f"{tmp_path}/lib/libtorchaudio.so: undefined symbol: _ZN3c10\\nmore"
    write_library(folder, "torchaudio", f"raise OSError({reason!r})".replace("\\\\", "\\"), version="2.11.1")
    write_library(folder, "torchvision", "raise RuntimeError('operator torchvision::nms does not exist')")
    write_library(folder, "ray", version="2.3.0")
    write_library(folder, "peft", "raise ImportError('wrong') from KeyError('cause')", version="0.15")
    write_library(folder, "torchcodec", "ffmpeg_major_version = None", version="0.17")
    write_metadata(folder, "embedkit", "0.1.10")
    result = run_doctor(folder)
    assert result.returncode == 1
    # Said by the first command where ours is installed as well, and not where a checkout alone runs.
    assert re.fullmatch(r"(Another author's package embedkit 0\.1\.10 is installed .*; run .*\.\n)?", result.stderr)
    text = result.stdout
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"torchaudio +2\.11\.1, does not load +broken", text)
    assert re.search(r"transformers +5\.24\.0 +ok", text)
    one_line = " ".join(text.split())
    assert "OSError: ~/lib/libtorchaudio.so: undefined symbol: _ZN3c10." in one_line
    assert "more" not in text.partition("Does not work")[2]
    assert "torch and transformers load together if torchaudio is left out." in one_line
    assert commands_below(text, "- torchaudio 2.11.1 does not load") == PAIR
    assert commands_below(text, "- torchvision 1.0 does not load") == f"{PIP} uninstall -y torchvision"
    assert "ray 2.3.0 is installed, expected >=2.40." in one_line
    assert commands_below(text, "- The extra 'ray'") == install_command("ray")
    assert "- The extra 'finetune' does not work: peft 0.15 does not load: KeyError: 'cause'." in one_line
    assert commands_below(text, "- The extra 'finetune'") == f"{PIP} install --force-reinstall --no-deps 'peft>=0.15'"
    assert "FFmpeg's libraries are not found or cannot be loaded; install FFmpeg first." in one_line
    assert "Another author's distribution 'embedkit' (0.1.10) is installed beside" in one_line
    assert commands_below(text, "- Another author's").startswith(
        f"{PIP} uninstall -y embedkit && {PIP} install --force"
    )
    assert "cuda:1 (Accelerator [80GB]) does not compute: RuntimeError: CUDA error: no kernel image" in one_line
    assert commands_below(text, "- cuda:1") == "nvidia-smi"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os; os._exit(139)", "its process ended with status 139, as after SIGSEGV"),
        (
            "import os, sys; print('MKL FATAL ERROR', file=sys.stderr, flush=True); os.kill(os.getpid(), 6)",
            "its process ended with status 134, as after SIGABRT: MKL FATAL ERROR",
        ),
        ("import time; time.sleep(60)", "it was not done within 5 s"),
        ("print('noise'); raise SystemExit('no licence')", "SystemExit: no licence"),
    ],
)
def test_a_torch_that_crashes_or_hangs_is_a_finding(code: str, told: str, tmp_path: Path) -> None:
    write_libraries(tmp_path)
    write_library(tmp_path, "torch", code, version="2.12.0")
    result = run_doctor(tmp_path, "--json", "--time-limit", "5")
    assert (result.returncode, result.stderr) == (1, "")
    found = json.loads(result.stdout)
    libraries = found["libraries"]
    assert libraries["torch"]["problem"] == f"torch 2.12.0 does not load: {told}."
    assert libraries["torch"]["command"] == PAIR.replace(" --force-reinstall", "")
    assert libraries["transformers"]["problem"] == "transformers 5.24.0 needs torch, which does not load."
    assert libraries["transformers"]["command"] == libraries["torch"]["command"]
    assert libraries["load together"]["facts"]["failed"] == ["torch", "torchaudio", "transformers"]
    assert found["devices"]["cuda"]["found"] == "unknown: torch does not load"
    assert found["hub"]["cache"]["state"] == "ok"


def test_problems_are_shown_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    path = "/home/anna/[bold]work/" + "/".join(["a-rather-long-name"] * 5)
    row = Row(
        section="machine",
        name="[red]disk",
        found=path,
        state="broken",
        problem=f"{path}: :smile: is full.",
        command="pip install '/home/anna/my kit[ray]'",
    )
    examination = Examination.of([row])
    assert examination.rows[0].command == "pip install ~/'my kit[ray]'"
    text = render_examination(examination)
    assert max(map(len, text.splitlines())) <= 80
    assert "  [red]disk" in text
    assert ":smile: is full." in text
    assert "~/[bold]work/a-rather-long-name/" in text
    assert "    pip install ~/'my kit[ray]'\n" in text
    assert re.sub(r"\s+", "", path.replace("/home/anna", "~")) in re.sub(r"\s+|broken", "", text)


def test_exit_codes_follow_what_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    for state, code in (("missing", 0), ("note", 0), ("broken", 1)):
        row = Row(section="extras", name="ray", found="not installed", state=state, command="pip install ray")  # type: ignore[arg-type]
        monkeypatch.setattr(doctor, "examine_machine", lambda row=row, **_: Examination.of([row]))
        assert CliRunner().invoke(app, ["doctor"]).exit_code == code
