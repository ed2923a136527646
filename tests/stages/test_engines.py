"""Engines are rated where the truth is known: the next where the first is poor, the better one, and a table of both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bglora.project import Project
from bglora.settings.plates import InpaintSettings
from bglora.stages.engines import chain, routes, routing_table, rule_of
from tests.foreign import installed, installed_example
from tests.stages.drawn_project import folder_of, project_of, records
from tests.stages.test_inpaint import plates_of
from tests.vision import drawn

HOLE = np.zeros((drawn.HEIGHT, drawn.WIDTH), bool)
HOLE[60:90, 150:180] = True
VANDAL = """
IDENTITY = "vandal/1"

def create(settings):
    return Vandal()

class Vandal:
    def fill(self, frame, hole, *, seed, prompt=""):
        return frame * 0 + 77
"""


def symmetric() -> np.ndarray:
    """A picture that is its own mirror image."""
    half = drawn.texture(61)[:, : drawn.WIDTH // 2]
    return np.concatenate([half, half[:, ::-1]], 1).astype(np.uint8)


def never_seen(tmp_path: Path, picture: np.ndarray, *given: str, hole: np.ndarray = HOLE) -> Project:
    """A project on layers whose hole never moves, run to its plates."""
    holed = np.where(hole[..., None], 0, picture).astype(np.uint8)
    folder_of([holed, holed], tmp_path / "old" / "background")
    project = project_of(tmp_path, [], *given, layers=[tmp_path / "old"], films=False)
    project.run("ingest", "segment", "inpaint")
    return project


def test_every_engine_is_rated_and_the_better_one_fills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = symmetric()
    both = ("inpaint.engine=patch", "inpaint.fallback=['mirror']", "inpaint.rate_all=true")
    with installed_example(tmp_path, monkeypatch):
        project = never_seen(tmp_path, picture, *both)
    lines = records(project, "plates/plates.jsonl")
    first = lines["old-s000/000000"]["record"]
    assert first["engine"] == "mirror" and {row["engine"] for row in first["rated"]} == {"patch", "mirror"}
    assert lines["old-s000/000001"]["record"]["rated"] == [], "a guess that is shown again is not rated again"
    plate, provenance = plates_of(project.root, "old-s000")[0]
    assert np.array_equal(plate[HOLE], picture[HOLE]) and (provenance[HOLE] == 2).all()
    (found,) = json.loads((project.root / "plates/engines.json").read_text())["bins"]
    assert found["best"] == "mirror" and found["from"] == 0.01
    assert found["engines"]["mirror"]["hole_psnr_db"] > 40 > found["engines"]["patch"]["hole_psnr_db"]


def test_the_next_engine_is_tried_where_the_first_is_too_poor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("inpaint.engine=vandal", "inpaint.fallback=['mirror']", "inpaint.hole_gain_db=3", "inpaint.tries=2")
    toml = '[project.entry-points."bglora.fill"]\nvandal = "vandal_fill"\n'
    with (
        installed_example(tmp_path, monkeypatch),
        installed(tmp_path, monkeypatch, "vandal_fill", VANDAL, toml),
    ):
        project = never_seen(tmp_path, symmetric(), *given)
    record = records(project, "plates/plates.jsonl")["old-s000/000000"]["record"]
    assert record["engine"] == "mirror" and record["tries"] == 3, "two seeds of the first, then the next"


def test_an_engine_that_paints_over_everything_changes_the_hole_alone_and_is_dropped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = drawn.texture(62).astype(np.uint8)
    toml = '[project.entry-points."bglora.fill"]\nvandal = "vandal_fill"\n'
    with installed(tmp_path, monkeypatch, "vandal_fill", VANDAL, toml):
        project = never_seen(tmp_path, picture, "inpaint.engine=vandal", "inpaint.hole_gain_db=1")
        (line,) = {(row["status"], row["reason"]) for row in records(project, "plates/plates.jsonl").values()}
        assert line[0] == "dropped" and "vandal tried" in line[1] and "inside the hole" in line[1]
        project.keep("old-s000/*")
        project.run("inpaint")
    plate, provenance = plates_of(project.root, "old-s000")[0]
    known = provenance == 0
    assert np.array_equal(plate[known], picture[known]) and (plate[HOLE] == 77).all()


def test_an_engine_by_the_share_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = np.zeros_like(HOLE)
    small[60:75, 150:165] = True
    way = "inpaint.routes={ '0.01' = 'patch', '1' = 'mirror' }"
    with installed_example(tmp_path, monkeypatch):
        for name, hole, engine in (("small", small, "patch"), ("large", HOLE, "mirror")):
            (tmp_path / name).mkdir()
            project = never_seen(tmp_path / name, symmetric(), way, hole=hole)
            assert records(project, "plates/plates.jsonl")["old-s000/000000"]["record"]["engine"] == engine


def rating(engine: str, share: float, rank: float) -> dict[str, float | str]:
    return {"engine": engine, "seed": 1, "share": share, "hole_psnr_db": 20 * rank, "hole_ssim": rank / 2}


def test_the_table_knows_the_best_engine_of_each_bin_and_compares_on_the_same_holes_alone() -> None:
    rated = [
        [rating("a", 0.02, 0.9), rating("b", 0.02, 0.8)],
        [rating("a", 0.03, 0.1)],  # a hard place that b was spared
        [rating("a", 0.2, 0.5), rating("b", 0.2, 0.7)],
        [rating("a", 0.4, 0.5)],
    ]
    table = routing_table(rated)
    assert [found["best"] for found in table["bins"]] == ["a", "b", ""]
    assert table["bins"][0]["engines"]["a"] == {"holes": 2, "rank": 0.5, "hole_psnr_db": 10.0, "hole_ssim": 0.25}
    assert routes(table) == {"0.05": "a", "1": "b"}
    assert routes(routing_table(rated[1:2])) == {}


def test_hybrid_is_lama_for_small_holes_and_brushnet_for_large_ones_and_the_other_one_comes_next() -> None:
    rule = {"engine": "hybrid", "routes": {}, "fallback": ["patch"], "simple_below": 0.15}
    assert chain(rule, 0.1) == ["lama", "brushnet", "patch"]
    assert chain(rule, 0.2) == ["brushnet", "lama", "patch"]


@pytest.mark.parametrize("engine", ["patch", "lama", "brushnet", "hybrid"])
def test_what_only_changes_speed_makes_no_plate_stale(engine: str) -> None:
    usual = InpaintSettings(engine=engine)
    hasty = usual.model_copy(update={"batch": 1, "low_memory": "yes", "lama_compile": not usual.lama_compile})
    assert rule_of(hasty, "harbor-s001", None, []) == rule_of(usual, "harbor-s001", None, [])
    smaller = usual.model_copy(update={"lama_side": usual.lama_side + 64})
    changed = rule_of(smaller, "harbor-s001", None, []) != rule_of(usual, "harbor-s001", None, [])
    assert changed == (engine != "patch")
