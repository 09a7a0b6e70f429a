"""What is asked of a source or an encoder is declared, and nothing is found out by its kind."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Iterator
from pathlib import Path

import embedkit
from embedkit.encoders.base import Encoder
from embedkit.training.data.source import Source
from embedkit.training.data.store_source import FoldStores, StoreSource
from embedkit.training.live.source import LiveSource

PACKAGE = Path(embedkit.__file__).parent
ROOT = PACKAGE.parent
SOURCES = {"Store", "Corpus", "Source", "EmbeddingSource", "StoreSource", "FoldStores", "PooledSource", "LiveSource"}


def calls(*names: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call of some functions, with where it stands."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node


def named(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} | {
        part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)
    }


def test_sources_are_told_apart_where_a_user_hands_one_in_and_nowhere_else() -> None:
    kinds, known = {Source}, set[type[Source]]()
    while kinds - known:
        known |= kinds
        kinds |= {below for one in known for below in one.__subclasses__() if below.__module__.startswith("embedkit.")}
    assert {cls.__name__ for cls in kinds} <= SOURCES
    found = [place for place, call in calls("isinstance", "issubclass") if named(call.args[1]) & SOURCES]
    assert len(found) <= 3, found


def test_sources_delegate_nothing_they_do_not_declare() -> None:
    for cls in (Source, StoreSource, FoldStores, LiveSource):
        assert not any("__getattr__" in vars(base) for base in cls.__mro__ if base is not object)


def test_no_declared_attribute_is_asked_for_by_getattr() -> None:
    names = {*vars(Encoder), *Encoder.__annotations__, *vars(Source), *Source.__annotations__}
    declared = {name for name in names if not name.startswith("__")}
    asked = [
        (place, call.args[1].value)
        for place, call in calls("getattr", "hasattr", "setattr")
        if isinstance(call.args[1], ast.Constant) and call.args[1].value in declared
    ]
    # `layers` and `encoder` of transformers' modules, `layerdrop` of their configurations.
    foreign = {"encoders/exact.py", "encoders/pretrained.py", "training/live/fine_tuner.py"}
    assert [one for one in asked if one[0].partition(":")[0] not in foreign] == []
    assert {name for _, name in asked} <= {"layers", "encoder", "layerdrop"}


def test_nothing_is_set_that_is_not_declared() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "type: ignore[attr-defined]" not in text, path
        assert "type: ignore[assignment]" not in text, path


def test_the_picture_of_the_rooms_is_that_of_the_contracts() -> None:
    script = runpy.run_path(str(ROOT / ".ci" / "rooms"))
    drawn = script["draw"](script["read_rows"]())
    assert (ROOT / "docs/figures/rooms.svg").read_text(encoding="utf-8") == drawn, "run .ci/rooms"
