"""Public functions of arrays name their shapes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "embedkit"
ARRAY = re.compile(r"\b(NDArray|ndarray|Tensor|FloatArray|IntArray|Indices|Names)\b")
# Weights by name, and whatever parameters a network has, are of no one shape.
NO_ARRAY = re.compile(r"(Mapping|dict)\[str, Tensor\]|(Iterable|Sequence)\[(Mapping\[str, )?Tensor\]\]*|Callable\[.*")


def public_functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef]:
    for node in body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body)


def handles_arrays(function: ast.FunctionDef) -> bool:
    given = [one.annotation for one in (*function.args.args, *function.args.kwonlyargs)]
    notes = [ast.unparse(one) for one in (*given, function.returns) if one is not None]
    return any(ARRAY.search(NO_ARRAY.sub("", note)) for note in notes)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_functions_of_arrays_name_shapes(path: Path) -> None:
    """An override without a docstring has that of the method it overrides."""
    documented = {one: ast.get_docstring(one) for one in public_functions(ast.parse(path.read_text("utf-8")).body)}
    silent = [
        f"{one.name}, line {one.lineno}"
        for one, told in documented.items()
        if told and handles_arrays(one) and not re.search(r"`\[.*?\]`", told, re.DOTALL)
    ]
    assert not silent, f"say the shapes in these docstrings, as `[utterances, layers, dimensions]`: {silent}"
