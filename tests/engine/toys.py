"""Small stages that write text files, for the engine's tests. Importable, so that worker processes find them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bglora.engine.stage import Item, Outcome, Stage, Tools, View


class Split(Stage):
    """Every source file gives one picture a line: `<source>/<NN>`."""

    name, home, reads = "split", "lines", ()

    def items(self, view: View) -> Iterable[Item]:
        for path in sorted((view.root / "sources").glob("*.txt")):
            upper = view.settings.get("split.upper", False)
            yield Item(path.stem, files=(f"sources/{path.name}",), settings={"split.upper": upper})

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        text = (tools.root / item.files[0]).read_text(encoding="utf-8")
        tools.remark({"count": len(text.splitlines())})
        for number, line in enumerate(text.splitlines()):
            out = f"lines/{item.name}/{number:02d}.txt"
            write(tools, out, line.upper() if item.settings["split.upper"] else line)
            yield Outcome(f"{item.name}/{number:02d}", outputs=(out,), record={"length": len(line)})

    def shared_files(self, view: View) -> Mapping[str, bytes]:
        names = [row.picture for row in view.rows("split")]
        return {"lines/all.json": json.dumps(names).encode()}


class Double(Stage):
    """Doubles every line `double.times` times; drops empty lines; a line `boom` crashes, `bad` fails alone."""

    name, home, reads, records = "double", "doubled", ("split",), "double-records.jsonl"

    def items(self, view: View) -> Iterable[Item]:
        groups: dict[str, list[tuple[str, str]]] = {}
        for row in view.rows("split"):
            if row.status == "made":
                groups.setdefault(row.item, []).append((row.picture, row.outputs[0]))
        for source, pairs in groups.items():
            dropped = {p: True for p, _ in pairs if view.decisions is not None and view.decisions.drops(p) is not None}
            yield Item(
                source,
                pictures=tuple(p for p, _ in pairs),
                files=tuple(path for _, path in pairs),
                settings={"double.times": view.settings.get("double.times", 2)},
                decisions=dropped,
                backend="toy/1",
            )

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        for done, (picture, path) in enumerate(zip(item.pictures, item.files, strict=True)):
            line = (tools.root / path).read_text(encoding="utf-8")
            tools.progress(done, len(item.files))
            if line == "boom":
                raise RuntimeError("the line says boom")
            if line == "bad":
                yield Outcome(picture, "failed", reason="a bad line")
            elif not line or picture in item.decisions:
                yield Outcome(picture, "dropped", reason="dropped by you" if line else "empty")
            else:
                out = f"doubled/{picture}.txt"
                write(tools, out, line * item.settings["double.times"])
                yield Outcome(picture, outputs=(out,), record={"seed": tools.seed})


class Join(Stage):
    """Everything in one file."""

    name, home, reads, parallel = "join", "joined", ("double",), False

    def items(self, view: View) -> Iterable[Item]:
        rows = [row for row in view.rows("double") if row.status == "made"]
        if rows:
            yield Item(
                "all",
                pictures=("all",),
                files=tuple(row.outputs[0] for row in rows),
                settings={"join.with": view.settings.get("join.with", "+")},
            )

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        texts = [(tools.root / path).read_text(encoding="utf-8") for path in item.files]
        write(tools, "joined/all.txt", item.settings["join.with"].join(texts))
        yield Outcome("all", outputs=("joined/all.txt",), record={"texts": len(texts)})


def write(tools: Tools, path: str, text: str) -> None:
    target = tools.scratch / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def pipeline() -> list[Stage]:
    return [Split(), Double(), Join()]


def contents(root: Path) -> dict[str, bytes]:
    """Everything below the project folder but .bglora, by path."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".bglora" not in path.parts
    }


@dataclass(frozen=True)
class Choices:
    """Decisions of a person, as far as the engine and the toys ask for them."""

    drops_: tuple[str, ...] = ()
    retries_: tuple[tuple[str, int], ...] = ()

    def __init__(self, drops: tuple[str, ...] = (), retries: tuple[tuple[str, int], ...] = ()) -> None:
        object.__setattr__(self, "drops_", drops)
        object.__setattr__(self, "retries_", retries)

    def drops(self, picture: str) -> str | None:
        return "" if picture in self.drops_ else None

    def retries(self, stage: str) -> dict[str, int]:
        return dict(self.retries_)
