"""A command line in this process, a tiny film, and a process of its own where it matters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bglora
from bglora.cli import run

ROOT = Path(bglora.__file__).parents[1]


@dataclass
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines on stdout."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def told(self) -> tuple[str, str, str]:
        """The three lines of the error."""
        lines = self.err.splitlines()
        assert len(lines) == 3, self.err
        assert [line[:6] for line in lines] == ["error:", "where:", "cure: "], self.err
        return lines[0][7:], lines[1][7:], lines[2][7:]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Runs `bglora …` in an empty folder and in this process."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("BGLORA_") and "__" in name:
            monkeypatch.delenv(name)

    def call(*words: object) -> Answer:
        capfd.readouterr()
        code = run([str(word) for word in words])
        found = capfd.readouterr()
        return Answer(code, found.out, found.err)

    return call


def process(*words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m bglora …` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "bglora", *(str(word) for word in words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight small frames: a square walks over a fixed background."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("film") / "walk"
    folder.mkdir()
    ground = np.random.default_rng(0).integers(40, 200, (48, 64, 3)).astype(np.uint8)
    for number in range(8):
        picture = ground.copy()
        picture[16:32, 4 + 6 * number : 14 + 6 * number] = (230, 30, 30)
        Image.fromarray(picture).save(folder / f"{number:03d}.png")
    return folder
