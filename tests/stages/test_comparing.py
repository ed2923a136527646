"""Engines side by side on one sheet: what it says, that nothing else changes, and what a person can get wrong."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from bglora.errors import UserError
from tests.foreign import installed_example
from tests.stages.drawn_project import project_of
from tests.stages.test_engines import never_seen, symmetric
from tests.vision import drawn


def contents(root: Path) -> dict[str, bytes]:
    """All files but the sheet."""
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    found.pop("report/compare.png", None)
    return found


def test_engines_stand_side_by_side_and_nothing_else_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with installed_example(tmp_path, monkeypatch):
        project = never_seen(tmp_path, symmetric())
        before = contents(project.root)
        found = project.compare("patch", "mirror", limit=1)
    assert contents(project.root) == before
    assert len(found.pictures) == 1 and {row["engine"] for row in found.rated[0]} == {"patch", "mirror"}
    assert found.routes == {"1": "mirror"}
    sheet = cv2.imread(str(found.path))
    assert found.path == project.root / "report/compare.png" and sheet.shape[1] > 4 * 360
    json.dumps(found.to_json())


def test_what_other_frames_show_is_withheld_and_scored_in_its_place(tmp_path: Path) -> None:
    shot = drawn.shot(63, 8)
    project = project_of(tmp_path, shot.frames)
    project.run("ingest", "segment")
    found = project.compare("patch", limit=2)
    assert not (project.root / "plates").exists()
    for (row,) in found.rated:
        assert row["share"] > 0.03 and 8 < row["hole_psnr_db"] < 40 and row["plate_psnr_db"] > row["hole_psnr_db"]


def test_the_command_says_how_far_it_is_and_what_it_found(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from bglora.cli import run

    project = project_of(tmp_path, drawn.shot(63, 8).frames)
    project.run("ingest", "segment")
    capfd.readouterr()
    assert run(["-C", str(project.root), "inpaint", "--compare", "patch", "--limit", "2"]) == 0
    told = capfd.readouterr()
    assert "compared, 1 of 2" in told.out + told.err and "compared, 2 of 2" in told.out + told.err
    assert "patch" in told.out and "report/compare.png" in told.out.replace("\\", "/")
    assert run(["-C", str(project.root), "inpaint", "--compare", "patch", "--json", "--limit", "1"]) == 0
    events = [json.loads(line)["event"] for line in capfd.readouterr().out.splitlines()]
    assert events == ["notice", "compared"]


def test_what_can_be_wrong_is_told_in_three_lines(tmp_path: Path) -> None:
    project = project_of(tmp_path, drawn.shot(64, 5, place=lambda k, count: None).frames)
    with pytest.raises(UserError, match="nothing of it yet") as told:
        project.compare("patch")
    assert "run --to inpaint" in told.value.cure
    project.run("ingest", "segment")
    with pytest.raises(UserError, match="no fill backend 'lamb'") as told:
        project.compare("patch", "lamb")
    assert "patch" in told.value.where and told.value.cure
    with pytest.raises(UserError, match="no picture with a character") as told:
        project.compare("patch")
    with pytest.raises(UserError, match="No engine is named"):
        project.compare("")


def test_the_sheet_is_as_wide_as_its_columns_whatever_the_frames_are(tmp_path: Path) -> None:
    from bglora.stages.comparison_sheet import WIDTH, outlined, small

    tall = small(np.zeros((300, 100, 3), np.uint8))
    assert tall.shape == (3 * WIDTH, WIDTH, 3)
    hole = np.zeros((300, 100), bool)
    hole[100:200, 20:60] = True
    drawn_in = outlined(tall, hole)
    assert drawn_in[2 * WIDTH - 200, round(0.4 * WIDTH)].sum() == 0 and drawn_in.any()
