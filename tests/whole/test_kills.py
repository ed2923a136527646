"""The whole job on a short cut of the sample film, killed at five seeded moments, ends as if nobody had killed it."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

import pytest

import bglora
from tests.bench.kills import contents, ended, live, short_film


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_five_kills_leave_the_same_bytes_nothing_temporary_and_no_item_made_twice(tmp_path: Path) -> None:
    film = short_film(tmp_path / "cut.mp4", frames=24)
    clean = bglora.init(tmp_path / "clean" / "cut", films=[film]).root
    shutil.copytree(clean, tmp_path / "killed" / "cut")
    _, events = ended(clean)
    seconds = {one["stage"]: one["seconds"] for one in events if one["event"] == "stage-finished"}
    targets = ("ingest", "segment", "inpaint", "train", "test")
    life = live(tmp_path / "killed" / "cut", random.Random(11), seconds, contents(clean), targets)
    assert len(life.kills) == 5
    assert (life.different, life.twice, life.left) == ([], [], [])
    assert (clean / "loras" / "scene-00.safetensors").is_file()
