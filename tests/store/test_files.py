"""Files written in one step follow no link that lies under their temporary name."""

import os
from pathlib import Path

import pytest

from embedkit.store.files import write_durably


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("kept")
    (tmp_path / "plan.json.part").symlink_to(other)

    write_durably(tmp_path / "plan.json", b"{}")

    assert other.read_text() == "kept"
    assert (tmp_path / "plan.json").read_bytes() == b"{}"
    assert not (tmp_path / "plan.json").is_symlink()
