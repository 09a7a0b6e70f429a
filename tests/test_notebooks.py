"""The notebooks of docs/ say what the library takes; `.ci/notebooks` runs them in a kernel."""

import ast
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import embedkit

DOCS = Path(__file__).parent.parent / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


def cells(notebook: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(notebook.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_there_are_notebooks() -> None:
    assert [notebook.stem for notebook in NOTEBOOKS] == ["emodb", "own-encoder"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_call_is_one_of_the_library_and_no_output_is_kept(notebook: Path) -> None:
    calls = 0
    for cell in cells(notebook):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("embedkit."):
                signature = inspect.signature(getattr(embedkit, ast.unparse(node.func).removeprefix("embedkit.")))
                names = {keyword.arg for keyword in node.keywords if keyword.arg}
                assert names <= signature.parameters.keys(), names
                calls += 1
    assert calls >= 4


def test_the_encoder_of_the_notebook_is_the_one_of_the_guide() -> None:
    source = "".join(cells(DOCS / "notebooks" / "own-encoder.ipynb")[0]["source"])
    guide = (DOCS / "adding-an-encoder.md").read_text("utf-8")
    assert source.split("'''")[1].strip() == guide.split("```python\n")[1].split("```")[0].strip()
