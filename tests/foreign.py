"""Engines of other packages, installed for one test: a module and an entry point on the path."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bglora import backends

ROOT = Path(__file__).parent.parent


def example_blocks() -> dict[str, str]:
    """The code blocks of CONTRIBUTING's fill engine by language."""
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(re.findall(r"```(python|toml)\n(.*?)```", text[text.index("## Adding a fill engine") :], re.S))


@contextmanager
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, code: str, toml: str) -> Iterator[None]:
    """Puts a package with one module and the entry points of a pyproject.toml on the path."""
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    points = tomllib.loads(toml)["project"]["entry-points"]
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n", encoding="utf-8")
    lines = [f"[{group}]\n" + "\n".join(f"{a} = {b}" for a, b in names.items()) for group, names in points.items()]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    backends.known.cache_clear()
    try:
        yield
    finally:
        backends.known.cache_clear()
        sys.modules.pop(module, None)


@contextmanager
def installed_example(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """CONTRIBUTING's engine `mirror`."""
    blocks = example_blocks()
    with installed(folder, monkeypatch, "mirror_fill", blocks["python"], blocks["toml"]):
        yield
