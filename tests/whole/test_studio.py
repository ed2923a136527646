"""The whole job on the studio's models, tiny and random, in the formats in which they are published.

What they see, paint and say is noise; that each is loaded, asked, and leaves its word in the records is what is shown.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bglora
from bglora.cli import lora
from bglora.cli import run as command
from bglora.cli.options import Options, Session
from bglora.console import Console
from bglora.errors import UserError
from tests.whole.tiny_studio import settings

SHOTS = "harbor-s0[01][12]*"


def run(project: bglora.Project) -> int:
    """Three shots of the sample film up to their plates, then all that is made of these; items made."""
    results = [project.run("ingest"), project.run("segment", only=SHOTS), project.run("inpaint", only=SHOTS)]
    results.append(project.run(since="cluster"))
    assert not any(result.failures for result in results)
    return sum(result.items for result in results)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> bglora.Project:
    folder = tmp_path_factory.mktemp("studio")
    film = Path(bglora.__file__).parent / "assets/harbor.mp4"
    root = bglora.init(folder / "project", films=[film], preset="studio").root
    project = bglora.open(root, given=[*settings(folder / "models"), "test.scales=[0, 1]"], jobs=1)
    assert run(project) > 0
    return project


def records(project: bglora.Project, file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (project.root / file).read_text("utf-8").splitlines()]


def test_sam2_follows_somebody_whom_the_detector_found(project: bglora.Project) -> None:
    rows = records(project, "segmented/segmented.jsonl")
    assert all(row["status"] == "made" for row in rows)
    assert any(row["record"]["tracks"] and 0 < row["record"]["object"] < 0.5 for row in rows)
    assert list((project.root / "segmented/character").rglob("*.png"))


def test_lama_and_brushnet_both_fill_and_the_detector_sends_plates_back(project: bglora.Project) -> None:
    rows = records(project, "plates/plates.jsonl")
    filled = [row["record"] for row in rows]
    assert {"lama", "brushnet"} <= {record["engine"] for record in filled}
    assert all(record["prompt"] for record in filled if record["engine"] == "brushnet")
    found = [(row["status"], {find["turn"] for find in row["record"].get("detected", [])}) for row in rows]
    assert any(status == "made" and turns and 2 not in turns for status, turns in found), found
    dropped = [row["reason"] for row in rows if row["status"] == "dropped"]
    assert dropped and all("the detector still sees a character" in reason for reason in dropped)


def test_openclip_names_the_scenes_and_qwen_writes_the_captions(project: bglora.Project) -> None:
    scenes = json.loads((project.root / "scenes/scenes.json").read_text("utf-8"))
    words = project.settings.cluster.titles
    assert scenes["scenes"] and all(scenes["words"][scene["id"]][0] in words for scene in scenes["scenes"])
    captions = [row["record"] for row in records(project, "datasets/caption.jsonl") if row["status"] == "made"]
    assert captions and all("golden evening light" in one["caption"] and "said" not in one for one in captions)


def test_every_scene_has_a_lora_a_verdict_and_a_composition(project: bglora.Project) -> None:
    scenes = json.loads((project.root / "scenes/scenes.json").read_text("utf-8"))["scenes"]
    for scene in scenes:
        assert (project.root / "loras" / f"{scene['id']}.safetensors").is_file()
    verdicts = records(project, "grids/test.jsonl")
    assert len(verdicts) == len(scenes) and all(row["record"]["verdict"] for row in verdicts)
    composed = records(project, "compositions/compose.jsonl")
    assert {row["item"] for row in composed} == {s["id"] for s in scenes}
    assert [row["record"]["loras"][-1]["scale"] for row in composed] == [0.5, 0.9] * len(scenes)
    assert all(row["record"]["outside"] == {"mean": 0.0, "p99": 0.0} for row in composed)  # the place's own, exactly


def test_verdicts_that_are_refused_end_with_1_after_all_is_done(
    project: bglora.Project, capfd: pytest.CaptureFixture[str]
) -> None:
    scene = records(project, "grids/test.jsonl")[0]
    word = scene["record"]["verdict"][0]["word"]
    given = [part for setting in project.given for part in ("--set", setting)]
    code = command(["-C", str(project.root), *given, "--json", "test", "--fail-on", word])
    out, err = capfd.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    result = next(line for line in lines if line["event"] == "result")
    assert (code, result["exit_code"], result["failures"]) == (1, 1, [])
    assert all(stage["items"] == 0 for stage in result["stages"])  # a refusal paints nothing again
    assert {"item": scene["item"], "words": word}.items() <= result["refused"][0].items()
    error = next(line for line in lines if line["event"] == "error")
    assert error["kind"] == "Refused" and word in error["what"] and scene["item"] in error["where"] and error["cure"]
    assert [line[:6] for line in err.splitlines()][-3:] == ["error:", "where:", "cure: "]
    with pytest.raises(UserError, match="No verdict has the name 'ghosts'") as caught:
        lora.test(Session(Options(folder=project.root), Console()), fail_on="copies,ghosts")
    assert "weak, overpowers, hallucinates, copies, conflicts, data" in caught.value.cure


def test_a_second_run_does_nothing(project: bglora.Project) -> None:
    assert run(project) == 0
