"""Files and folders are whole or not there, follow no link, and leave nothing behind."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from embedkit import writing
from embedkit.errors import CorpusError, RunError
from embedkit.writing import new_file, new_folder, open_log, write_file

POSIX = pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows, modes are others")
KILLED = """
import os, sys
from pathlib import Path
from embedkit.writing import new_file, new_folder
with new_file(Path("file")) as file, new_folder(Path("folder")) as folder:
    file.write_text("half")
    (folder / "half").write_text("half")
    os._exit(9)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"old")
    with new_folder(tmp_path / "folder") as folder:
        (folder / "old").touch()
    for name, begin in (("file", new_file), ("folder", new_folder)):
        with pytest.raises(ZeroDivisionError), begin(tmp_path / name):
            raise ZeroDivisionError
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path / "folder") == ["old"]


def test_a_killed_process_leaves_nothing_for_long(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", KILLED], cwd=tmp_path, check=False, env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    left = names(tmp_path)
    assert len(left) == 2
    assert all(writing.is_temporary(name) for name in left)
    mine = tmp_path / ".notes.part"
    mine.touch()
    write_file(tmp_path / "other", b"")
    assert names(tmp_path) == [".notes.part", "other"]


def test_what_others_are_writing_stays_for_a_week(tmp_path: Path) -> None:
    alive = tmp_path / f".file.{writing._name_machine()}-{os.getpid()}-{'0' * 16}.part"
    far = tmp_path / f".file.{'0' * 8}-{2**31}-{'0' * 16}.part"
    for path in (alive, far):
        path.touch()
    write_file(tmp_path / "other", b"")
    assert alive.exists()
    assert far.exists()
    past = time.time() - 8 * 86400
    for path in (alive, far):
        os.utime(path, (past, past))
    write_file(tmp_path / "other", b"")
    assert names(tmp_path) == ["other"]


@POSIX
def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "text").write_text("kept")
    (tmp_path / "file").symlink_to(mine / "text")
    (tmp_path / "nowhere").symlink_to("none")
    (tmp_path / "folder").symlink_to(mine)
    for name in ("file", "nowhere"):
        write_file(tmp_path / name, b"new")
        assert not (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_bytes() == b"new"
    with new_folder(tmp_path / "folder") as folder:
        (folder / "new").touch()
    assert not (tmp_path / "folder").is_symlink()
    assert names(tmp_path / "folder") == ["new"]
    assert names(mine) == ["text"]
    assert (mine / "text").read_text() == "kept"


@POSIX
def test_no_link_is_opened_and_nothing_but_files_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("kept")
    (tmp_path / "link").symlink_to("text")
    (tmp_path / "device").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "device"):
        with pytest.raises(OSError, match=r"symbolic links|no file"):
            open_log(tmp_path / name)
    for name in ("pipe", "device", "."):
        with pytest.raises(CorpusError, match=r"cannot be written \(it is (no file|a folder)\); choose another place"):
            write_file(tmp_path / name, b"", error=CorpusError)
    assert (tmp_path / "text").read_text() == "kept"
    assert Path("/dev/null").is_char_device()


@POSIX
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_have_the_users_usual_mode(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_file(tmp_path / "file", b"")
        with new_file(tmp_path / "of a library") as part:
            part.unlink()
            part.touch(0o600)
        with new_folder(tmp_path / "folder") as folder:
            (folder / "of a library").touch(0o600)
    finally:
        os.umask(before)
    for name in ("file", "of a library", "folder/of a library"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~mask


def test_a_folder_that_another_has_put_there_may_stay(tmp_path: Path) -> None:
    with new_folder(tmp_path / "folder", is_whole=Path.is_dir) as part:
        (tmp_path / "folder").mkdir()
        (part / "mine").touch()
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder") == []


def test_long_names_have_temporary_ones(tmp_path: Path) -> None:
    name = "é" * 120
    write_file(tmp_path / name, b"whole")
    assert (tmp_path / name).read_bytes() == b"whole"


def test_other_errors_are_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file/x' cannot be written \(.*\); take less\."):
        write_file(tmp_path / "file" / "x", b"", otherwise="take less")
    with pytest.raises(KeyError), new_file(tmp_path / "other"):
        raise KeyError
