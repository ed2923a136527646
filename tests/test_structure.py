"""The house's rules: who may know whom, how long a file may be, what nobody calls a file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bglora"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)

FIELDS = {"film", "vision", "nets", "training"}
"""Rooms of arrays: they know the libraries of their field, never settings, projects or the engine."""

MAY_KNOW: dict[str, set[str]] = {
    "errors": set(),
    "settings": {"errors"},
    "engine": {"errors"},
    "film": {"errors"},
    "vision": {"errors", "film"},
    "nets": {"errors", "vision", "film"},
    "training": {"errors", "nets", "vision", "film"},
    "assets": {"errors", "training", "nets", "vision", "film"},
    "backends": {"errors", "settings", "assets", *FIELDS},
    "decisions": {"errors", "settings"},
    "stages": {"errors", "settings", "decisions", "engine", "backends", "assets", *FIELDS},
    "report": {"errors", "settings", "decisions", "engine"},
    "project": {"errors", "settings", "decisions", "engine", "stages", "backends", "film", "report", "assets"},
    "review": {"errors", "settings", "decisions", "engine", "report", "project", ""},
    "": {"errors", "settings", "decisions", "engine", "project"},
    "console": {"errors", "engine", "settings", "project"},
    "cli": {"errors", "settings", "decisions", "engine", "stages", "backends", "report", "assets"}
    | {"project", "console", "review", ""},
    "__main__": {"cli"},
}
"""Room (first name below `bglora`; "" is the Python interface) to the rooms it may import."""

HEAVY = {"torch", "diffusers", "transformers", "peft", "accelerate"}
"""Libraries that take seconds to import: only inside functions, or in rooms that are themselves imported when used."""

LIGHT_ROOMS = {"", "cli", "console", "errors", "decisions", "engine", "__main__"}
"""Rooms on the road of `bglora --help` and `status`: no array or model library at the top of a file."""

ARRAYS = HEAVY | {"numpy", "scipy", "cv2", "av", "sklearn", "hdbscan", "PIL"}


def room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(path: Path, *, top_only: bool) -> Iterator[tuple[int, str]]:
    """Line and dotted name of what a file imports at run time; `top_only`: what importing the file itself imports."""

    def walk(node: ast.AST) -> Iterator[tuple[int, str]]:
        for child in ast.iter_child_nodes(node):
            if typing_only(child):
                continue
            if top_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.Import):
                yield from ((child.lineno, alias.name) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno}: imports are written in full"
                for alias in child.names:
                    yield (
                        child.lineno,
                        f"{child.module}.{alias.name}" if child.module == "bglora" else str(child.module),
                    )
            yield from walk(child)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")))


def known_room(name: str) -> str:
    parts = name.split(".")
    if len(parts) < 2:
        return ""
    there = (PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").exists()
    return parts[1] if there else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_room_knows_only_the_rooms_below_it(path: Path) -> None:
    own = room(path)
    strangers = [
        f"line {line}: {name}"
        for line, name in imports(path, top_only=False)
        if name.split(".")[0] == "bglora"
        and known_room(name) not in MAY_KNOW[own] | {own}
        # the version is a constant of the package's front door; reading it is not knowing the interface
        and name != "bglora.__version__"
    ]
    assert strangers == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    own = room(path)
    heavy = ARRAYS if own in LIGHT_ROOMS else set() if own in {"training", "nets", "assets"} else HEAVY
    found = [f"line {line}: {name}" for line, name in imports(path, top_only=True) if name.split(".")[0] in heavy]
    if own == "backends" and path.parent.name in {"train", "paint"} and path.name != "__init__.py":
        return  # loaded by name, when a training or a painting starts
    assert found == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_is_one_room(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_only_the_console_prints(path: Path) -> None:
    if room(path) == "console" or "train_mini" in path.parts or path.name.startswith("train_"):
        return
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == []


def test_no_file_has_a_name_that_says_nothing() -> None:
    vague = re.compile(r"(utils?|helpers?|common|misc|managers?)\.py$|/(utils?|helpers?|common|misc|managers?)/")
    assert [path for path in FILES if vague.search(path.as_posix())] == []


def test_every_room_is_in_the_plan() -> None:
    assert {room(path) for path in FILES} <= set(MAY_KNOW)


def test_nothing_swallows_an_error() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler) and all(isinstance(line, ast.Pass) for line in node.body):
                kind = "" if node.type is None else ast.unparse(node.type)
                assert kind not in {"", "Exception", "BaseException"}, f"{path}:{node.lineno} swallows every error"
