"""What a person does on the page ends where the commands would write it, and can be taken back."""

from __future__ import annotations

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bglora.decisions import FILE, Decisions
from bglora.film.png import read_grey
from bglora.project import Project
from bglora.review.undo import Journal
from bglora.settings.edit import writing
from tests.review.conftest import ASKING, Asked, three_lines


def png(array: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def captioned(tab: Asked) -> list[str]:
    """Plates with a caption in a dataset."""
    return [name for name, one in tab.state["plates"].items() if one["caption"] and one["dataset"]]


def test_plates_and_whole_shots_are_dropped_and_kept(tab: Asked) -> None:
    plate = tab.plates()[0]
    answer = tab.act("drop", items=["walk-s001/*", plate], reason="too dark")
    assert answer.status_code == 200 and answer.json()["said"] == "drop walk-s001/* and 1 more"
    assert any(line.startswith("cluster ") for line in answer.json()["stale"])
    state = tab.state
    assert {state["plates"][name]["decision"] for name in state["plates"] if name.startswith("walk-s001/")} == {"drop"}
    assert tab.decided[0] == {"drop": "walk-s001/*", "reason": "too dark"}
    tab.act("keep", items=[plate])
    assert tab.state["plates"][plate]["decision"] is None, "a keep takes a drop of the same name back"
    tab.act("keep", items=[plate])
    assert tab.state["plates"][plate]["decision"] == "keep"


def test_what_failed_is_tried_again_in_its_stage(tab: Asked) -> None:
    first, second = tab.plates()[:2]
    assert tab.act("retry", items=[first, second], stage="inpaint").status_code == 200
    assert [(one["retry"], one["stage"]) for one in tab.decided] == [(first, "inpaint"), (second, "inpaint")]
    assert "no stage" in three_lines(tab.act("retry", items=[first], stage="paint"))[0]


def test_scenes_are_renamed_merged_split_and_plates_moved(tab: Asked) -> None:
    first, second = (scene["id"] for scene in tab.state["scenes"][:2])
    plate = tab.state["scenes"][0]["plates"][0]
    assert tab.act("rename", scene=first, title=" The  pier ").status_code == 200
    assert tab.state["scenes"][0]["title"] == "The pier"
    assert tab.act("merge", scenes=[first, second]).status_code == 200
    assert tab.act("split", scene=first, plates=[plate]).status_code == 200
    assert tab.act("move", scene=second, plates=[plate]).status_code == 200
    assert tab.act("give_back", plates=[plate]).status_code == 200
    assert tab.decided == [
        {"rename": first, "title": "The pier"},
        {"merge": [second], "into": first},
        {"split": first, "plates": [plate]},
        {"move": [plate], "into": second},
        {"keep": plate},
    ]
    assert [sorted(one) for one in tab.state["decisions"]] == [sorted(one) for one in tab.decided[:4]]


def test_a_title_that_is_none_is_told_as_a_title(tab: Asked) -> None:
    for title in ("x" * 10_000, "a\x07bell"):
        assert three_lines(tab.act("rename", scene="scene-00", title=title))[0].startswith("This title ")


def test_a_caption_and_tags_over_a_scene_are_decided_and_shown(tab: Asked) -> None:
    plate, other = captioned(tab)[:2]
    before = tab.state["plates"]
    trigger = before[plate]["caption"].partition(",")[0]
    assert tab.act("caption", plate=plate, text=f"{trigger}, the quay,  at dusk,").status_code == 200
    assert tab.state["plates"][plate]["caption"] == f"{trigger}, the quay, at dusk"
    assert tab.state["plates"][plate]["edited"] == ["caption"]
    scene = before[other]["scene"]
    answer = tab.act("replace", scene=scene, find="empty scene", replace="nobody, quiet")
    assert answer.status_code == 200 and "to 'nobody, quiet' in" in answer.json()["said"]
    assert tab.state["plates"][other]["caption"] == before[other]["caption"].replace("empty scene", "nobody, quiet")
    assert tab.state["plates"][plate]["caption"] == f"{trigger}, the quay, at dusk", "it has no such tag"
    assert "No caption of" in three_lines(tab.act("replace", scene=scene, find="empty", replace=""))[0]
    assert tab.act("caption", plate=plate, text="").status_code == 200
    assert tab.state["plates"][plate]["caption"] == before[plate]["caption"]


def test_a_caption_that_lacks_the_tag_stays_as_it_was_written(tab: Asked) -> None:
    plate, other = captioned(tab)[:2]
    text = next((tab.root / "datasets").rglob(plate.replace("/", "_") + ".txt"))
    text.write_text("by hand,without spaces\n")
    scene = tab.state["plates"][other]["scene"]
    assert tab.act("replace", scene=scene, find="empty scene", replace="").status_code == 200
    assert text.read_text() == "by hand,without spaces\n"
    assert plate not in {one["caption"] for one in tab.decided}


def test_a_caption_that_was_edited_by_hand_gives_way_to_one_from_the_page_and_comes_back(tab: Asked) -> None:
    plate = captioned(tab)[0]
    text = next((tab.root / "datasets").rglob(plate.replace("/", "_") + ".txt"))
    text.write_text("by hand, in an editor\n")
    assert tab.state["plates"][plate]["caption"] == "by hand, in an editor"
    tab.act("caption", plate=plate, text="by the page")
    assert text.read_text().endswith(", by the page\n") and tab.state["plates"][plate]["caption"].endswith(
        "by the page"
    )
    assert tab.act("undo").status_code == 200
    assert text.read_text() == "by hand, in an editor\n"
    assert tab.state["plates"][plate]["caption"] == "by hand, in an editor"


def test_a_painted_mask_replaces_the_made_one_until_it_is_taken_back(tab: Asked) -> None:
    name = tab.plates()[2]
    path = tab.root / f"segmented/masks/{name}.png"
    before = path.read_bytes()
    painted = read_grey(path).copy()
    painted[10:30, 10:40] = 255
    painted[30:34, 10:40] = 128
    colored = np.dstack([painted] * 3 + [np.full_like(painted, 255)])
    answer = tab.act("mask", frame=name, png=png(colored))
    assert answer.status_code == 200, answer.text
    assert np.array_equal(read_grey(path), painted) and Image.open(path).mode == "L"
    assert any(line.startswith("inpaint ") for line in answer.json()["stale"])
    assert tab.state["plates"][name]["edited"] == ["mask"]
    tab.act("undo")
    assert path.read_bytes() == before
    assert tab.state["plates"][name]["edited"] == []
    assert next(one for one in tab.state["stages"] if one["name"] == "inpaint")["fresh"]


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.zeros((96, 161), np.uint8), "161 x 96"),
        (np.full((96, 160), 7, np.uint8), "other values"),
        (np.tile(np.array([255, 0, 0], np.uint8), (96, 160, 1)), "colored"),
        (np.tile(np.array([255, 255, 255, 9], np.uint8), (96, 160, 1)), "see-through"),
    ],
)
def test_what_is_no_mask_is_refused(tab: Asked, array: np.ndarray, why: str) -> None:
    name = tab.plates()[0]
    before = (tab.root / f"segmented/masks/{name}.png").read_bytes()
    answer = tab.act("mask", frame=name, png=png(array))
    assert answer.status_code == 400 and why in three_lines(answer)[0]
    assert (tab.root / f"segmented/masks/{name}.png").read_bytes() == before
    for text in ("!!", base64.b64encode(b"no png at all").decode()):
        assert tab.act("mask", frame=name, png=text).status_code == 400
    assert tab.state["undo"] is None, "what was refused leaves nothing to take back"


def test_somebody_is_pointed_out_where_the_masks_backend_can_be_told(tab: Asked) -> None:
    name = tab.plates()[0]
    what, _, cure = three_lines(tab.act("points", frame=name, points=[[30, 40, 1]], box=None))
    assert "motion can't be told" in what and "sam2" in cure
    tab.project.set("segment.backend", "sam2")
    assert tab.act("points", frame=name, points=[[30, 40, 1], [90, 20, 0]], box=[10, 20, 60, 90]).status_code == 200
    assert tab.decided == [{"prompt": name, "box": [10, 20, 60, 90], "points": [[30, 40, 1], [90, 20, 0]]}]
    assert "points" in tab.state["plates"][name]["edited"]
    assert "outside the frame" in three_lines(tab.act("points", frame=name, points=[[161, 5, 1]]))[0]
    assert tab.act("points", frame=name, points=[[9, 9, 2]]).status_code == 400
    assert tab.act("points", frame=name, points=[], box=None).status_code == 200
    assert tab.decided == []


def test_checkpoint_and_scale_are_chosen_and_given_back(tab: Asked) -> None:
    files = tab.state["scenes"][0]["lora"]["checkpoints"]
    assert tab.act("choose", scene="scene-00", checkpoint=files[1], scale=1).status_code == 200
    assert tab.state["scenes"][0]["lora"]["chosen"] == {"checkpoint": files[1], "scale": 1.0}
    assert "no LoRA file" in three_lines(tab.act("choose", scene="scene-00", checkpoint="project.toml", scale=1))[0]
    assert "no scale" in three_lines(tab.act("choose", scene="scene-00", checkpoint=files[1], scale=-1))[0]
    assert tab.act("choose", scene="scene-00", checkpoint="", scale=0).status_code == 200
    assert tab.decided == [] and tab.state["scenes"][0]["lora"]["chosen"] is None


def test_acts_are_taken_back_one_after_another_and_survive_the_server(tab: Asked) -> None:
    plate = tab.plates()[0]
    tab.act("drop", items=[plate])
    tab.act("rename", scene="scene-00", title="The pier")
    assert tab.state["undo"] == "rename scene-00 to The pier"
    assert Journal(tab.root).last() == "rename scene-00 to The pier", "it is on disk"
    assert tab.act("undo").json()["said"] == "taken back: rename scene-00 to The pier"
    assert tab.act("undo").json()["said"] == f"taken back: drop {plate}"
    assert not (tab.root / "decisions.toml").exists(), "there was none before"
    assert "nothing to take back" in three_lines(tab.act("undo"))[0]


def test_an_act_is_not_taken_back_over_what_other_hands_changed_since(tab: Asked) -> None:
    plate = tab.plates()[0]
    tab.act("drop", items=[plate])
    tab.project.rename("scene-00", "By the command line")
    assert tab.state["undo"] is None
    assert "changed by other hands" in three_lines(tab.act("undo"))[0]
    assert len(tab.decided) == 2


def test_an_act_that_fails_half_way_leaves_all_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "decisions.toml").write_text("# mine\n")
    journal = Journal(tmp_path)
    with pytest.raises(OSError, match="full"), journal.entry("half", ["new.txt"]):
        (tmp_path / "decisions.toml").write_text("# another\n")
        (tmp_path / "new.txt").write_text("new")
        raise OSError("full")
    assert (tmp_path / "decisions.toml").read_text() == "# mine\n" and not (tmp_path / "new.txt").exists()
    assert journal.last() is None


def test_of_two_tabs_the_one_that_did_not_see_the_others_act_is_told(tab: Asked) -> None:
    plate, other = tab.plates()[:2]
    seen = tab.state["revision"]
    first = tab.post("/api/act", act="drop", revision=seen, items=[plate])
    second = tab.post("/api/act", act="drop", revision=seen, items=[other])
    assert (first.status_code, second.status_code) == (200, 409)
    assert "another tab" in three_lines(second)[0]
    assert tab.decided == [{"drop": plate, "reason": ""}]
    again = tab.post("/api/act", act="drop", revision=first.json()["revision"], items=[other])
    assert again.status_code == 200
    tab.project.rename("scene-00", "By the command line")
    stale = tab.post("/api/act", act="drop", revision=again.json()["revision"], items=[plate])
    assert stale.status_code == 409, "a command line counts as another tab"


@pytest.mark.parametrize("act", ["drop", "undo"])
def test_an_act_waits_for_a_command_that_is_writing_and_is_then_told_of_it(tab: Asked, act: str) -> None:
    plate, other = tab.plates()[:2]
    seen = tab.act("drop", items=[plate]).json()["revision"]
    with ThreadPoolExecutor(1) as second:
        with writing(tab.root / FILE):
            answer = second.submit(tab.post, "/api/act", act=act, revision=seen, items=[other])
            with pytest.raises(TimeoutError):
                answer.result(0.5)
            Decisions.load(tab.root).add("rename", rename="scene-00", title="By the command line")
        assert answer.result(30).status_code == 409
    assert [one.kind for one in Decisions.load(tab.root).entries] == ["drop", "rename"]


def test_a_command_waits_until_an_act_is_done(tab: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    plate = tab.plates()[0]
    begun, go_on = Event(), Event()
    drop = Project.drop

    def slow(project: Project, *items: str, reason: str = "") -> None:
        begun.set()
        assert go_on.wait(30)
        drop(project, *items, reason=reason)

    monkeypatch.setattr(Project, "drop", slow)
    with ThreadPoolExecutor(2) as hands:
        page = hands.submit(tab.act, "drop", items=[plate])
        assert begun.wait(30)
        command = hands.submit(Decisions.load(tab.root).add, "rename", rename="scene-00", title="By the command line")
        try:
            with pytest.raises(TimeoutError):
                command.result(0.5)
        finally:
            go_on.set()
        assert page.result(30).status_code == 200
        command.result(30)
    assert [one.kind for one in Decisions.load(tab.root).entries] == ["drop", "rename"]
    stale = tab.post("/api/act", act="drop", revision=page.result().json()["revision"], items=[plate])
    assert stale.status_code == 409, "the act's answer does not speak of what came after it"


@pytest.mark.parametrize(
    "values",
    [
        {"act": "erase"},
        {"act": 3},
        {},
        {"act": "drop"},
        {"act": "drop", "items": []},
        {"act": "drop", "items": "walk-s000/*"},
        {"act": "drop", "items": ["nobody/000000"]},
        {"act": "drop", "items": ["a\nb"]},
        {"act": "rename", "scene": "scene-99", "title": "x"},
        {"act": "rename", "scene": "scene-00", "title": " "},
        {"act": "merge", "scenes": ["scene-00", "scene-00"]},
        {"act": "caption", "plate": "walk-s000/000000", "text": 5},
        {"act": "caption", "plate": "../project", "text": "x"},
        {"act": "mask", "frame": "../../etc/passwd", "png": ""},
        {"act": "choose", "scene": "scene-00", "checkpoint": "loras/scene-00.safetensors", "scale": "1"},
        {"act": "choose", "scene": "scene-00", "checkpoint": "loras/scene-00.safetensors", "scale": 10**400},
        {"act": "drop", "items": ["walk-s000/*"], "reason": "\ud800"},
        {"act": "rename", "scene": "\udfff", "title": "x"},
    ],
    ids=ascii,
)
def test_an_act_that_is_none_changes_nothing(tab: Asked, values: dict[str, Any]) -> None:
    before = {path: path.read_bytes() for path in _files(tab.root)}
    text = json.dumps({"revision": tab.state["revision"], **values})
    headers = {**ASKING, "Content-Type": "application/json"}
    answer = tab.client.post("/api/act", content=text, headers=headers)
    assert answer.status_code == 400
    three_lines(answer)
    assert {path: path.read_bytes() for path in _files(tab.root)} == before


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and ".bglora" not in path.parts]
