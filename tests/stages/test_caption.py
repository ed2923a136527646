"""`caption`: which plates are trained on, under which trigger, with which words."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from bglora.decisions import Decisions
from bglora.errors import UserError
from bglora.film.png import read_rgba
from bglora.stages.dataset import Candidate, choose, folder_name, hold_out, triggers
from tests.shared import shared
from tests.stages.drawn_plates import film, lay, place, records, run, runner


def datasets(root: Path) -> list[str]:
    return sorted(path.relative_to(root / "datasets").as_posix() for path in (root / "datasets").rglob("*.*"))


def remark(root: Path, scene: str) -> dict:
    return dict(runner(root).view().item_record("caption", scene))


def test_a_dataset_lies_in_kohyas_layout_with_whole_captions(tmp_path: Path) -> None:
    lay(tmp_path, film(2))
    run(tmp_path, caption={"repeats": 3})
    files = [path for path in datasets(tmp_path) if path.startswith("scene-01")]
    assert {path.rpartition("/")[0] for path in files} == {"scene-01/3_flm_2"}
    assert len(files) == 10 and "scene-01/3_flm_2/film-s003_000002.png" in files
    caption = (tmp_path / "datasets/scene-01/3_flm_2/film-s003_000002.txt").read_text("utf-8")
    assert caption.startswith("flm_2, background, ") and caption.endswith(", no characters, empty scene\n")
    assert "\n" not in caption[:-1]
    picture = tmp_path / "datasets/scene-01/3_flm_2/film-s003_000002.png"
    assert picture.read_bytes() == (tmp_path / "plates/film-s003/000002.png").read_bytes()
    told = remark(tmp_path, "scene-01")
    assert told["trigger"] == "flm_2" and told["keep_tokens"] == 2 and told["repeats"] == 3


def test_a_caption_that_a_person_decided_goes_with_its_plate_and_gets_its_scenes_trigger(tmp_path: Path) -> None:
    lay(tmp_path, film(2))
    run(tmp_path)
    own = [row["picture"] for row in records(tmp_path, "datasets/caption.jsonl").values() if row["item"] == "scene-01"]
    for plate in own:
        Decisions.load(tmp_path).add("caption", caption=plate, text="the quay, rain")
    assert run(tmp_path).items == 1, "their scene alone"

    def texts() -> dict[str, str]:
        files = [path for path in (tmp_path / "datasets").rglob("*.txt") if path.stem.replace("_", "/") in own]
        return {path.relative_to(tmp_path / "datasets").parts[0]: path.read_text("utf-8") for path in files}

    assert texts() == {"scene-01": "flm_2, the quay, rain\n"}
    Decisions.load(tmp_path).add("merge", merge=["scene-01"], into="scene-00")
    run(tmp_path)
    assert texts() == {"scene-00": "flm_1, the quay, rain\n"}
    for plate in own:
        Decisions.load(tmp_path).add("caption", caption=plate, text="")
    run(tmp_path)
    assert texts()["scene-00"].startswith("flm_1, background, ")


def test_held_out_plates_are_in_no_dataset_but_have_a_caption(tmp_path: Path) -> None:
    lay(tmp_path, film(2))
    run(tmp_path)
    rows = records(tmp_path, "datasets/caption.jsonl")
    held_out = {name: row for name, row in rows.items() if row["record"].get("held_out")}
    assert len(held_out) == 2
    for name, row in held_out.items():
        assert row["status"] == "dropped" and row["reason"] == "held out for validation"
        assert row["record"]["caption"].startswith("flm_")
        assert not any(name.replace("/", "_") in path for path in datasets(tmp_path))
    assert sorted(held_out) == sorted(
        remark(tmp_path, "scene-00")["held_out"] + remark(tmp_path, "scene-01")["held_out"]
    )


def test_near_copies_stay_out_and_the_least_guessed_one_in(tmp_path: Path) -> None:
    still = place(2, 0)
    copies = {f"film-s000/{k:06d}": np.clip(still.astype(int) + k % 2, 0, 255).astype(np.uint8) for k in range(5)}
    lay(tmp_path, {**copies, **film(1, name="other")}, {name: {"guessed": 0.1} for name in list(copies)[:3]})
    run(tmp_path)
    rows = records(tmp_path, "datasets/caption.jsonl")
    reasons = [rows[name]["reason"] for name in copies if rows[name]["reason"].startswith("near copy")]
    assert len(reasons) == 4
    assert set(reasons) <= {"near copy of film-s000/000003", "near copy of film-s000/000004"}


def test_a_caption_edited_by_hand_stays(tmp_path: Path) -> None:
    lay(tmp_path, film(1))
    run(tmp_path)
    path = next((tmp_path / "datasets").rglob("*.txt"))
    path.write_text("flm_1, background, the pier at low tide, no characters, empty scene\n", "utf-8")
    run(tmp_path)
    run(tmp_path, caption={"empty_words": ""})
    assert "low tide" in path.read_text("utf-8")
    others = [one.read_text("utf-8") for one in (tmp_path / "datasets").rglob("*.txt") if one != path]
    assert others and all("empty scene" not in text for text in others)


def test_a_new_title_gives_a_new_trigger_and_a_persons_own_wins(tmp_path: Path) -> None:
    lay(tmp_path, film(2))
    run(tmp_path)
    Decisions.load(tmp_path).add("rename", rename="scene-01", title="The pier")
    run(tmp_path, caption={"triggers": {"scene-00": "oldtown"}})
    assert remark(tmp_path, "scene-00")["trigger"] == "oldtown"
    assert remark(tmp_path, "scene-01")["trigger"] == "flm_the_pier"
    assert {path.split("/")[1] for path in datasets(tmp_path) if "/" in path} == {"5_oldtown", "5_flm_the_pier"}


@pytest.mark.parametrize(("own", "what"), [({"scene-00": "a, b"}, "has a comma"), ({"scene-00": " "}, "is empty"),
                                           ({"scene-00": "x", "scene-01": "X"}, "is used twice")])  # fmt: skip
def test_a_trigger_that_is_no_single_tag_is_refused(tmp_path: Path, own: dict[str, str], what: str) -> None:
    lay(tmp_path, film(2))
    with pytest.raises(UserError) as told:
        run(tmp_path, caption={"triggers": own})
    assert what in told.value.what and "caption.triggers" in told.value.where


def test_no_scenes_are_told_in_three_lines(tmp_path: Path) -> None:
    lay(tmp_path, film(1))
    with pytest.raises(UserError, match="no scenes"):
        run(tmp_path, "inpaint", "caption")


def test_a_prefix_that_names_a_character_is_refused(tmp_path: Path) -> None:
    lay(tmp_path, film(1))
    result = run(tmp_path, caption={"prefix": "a girl, background"})
    assert "'girl'" in result.failures[0].reason and "caption.prefix" in result.failures[0].reason


def lettered(picture: np.ndarray) -> np.ndarray:
    return cv2.putText(picture.copy(), "HARBOR MARKET", (14, 96), cv2.FONT_HERSHEY_DUPLEX, 0.9, (255, 255, 255), 2)


def test_a_place_with_lettering_is_not_mirrored_unless_a_person_says_so(tmp_path: Path) -> None:
    plates = {name: cv2.GaussianBlur(picture, (0, 0), 9) for name, picture in film(1).items()}
    lay(tmp_path, plates)
    run(tmp_path)
    assert remark(tmp_path, "scene-00")["flip"] is True
    lay(tmp_path, {name: lettered(picture) for name, picture in plates.items()})
    run(tmp_path)
    told = remark(tmp_path, "scene-00")
    assert told["flip"] is False and told["lettering"]
    run(tmp_path, caption={"flip": "on"})
    assert remark(tmp_path, "scene-00")["flip"] is True


def test_stills_without_lettering_raise_hardly_an_alarm() -> None:
    from bglora.film.lettering import find_letters

    rows = [json.loads(line) for line in shared("stills", "captions.jsonl").read_text("utf-8").splitlines()]
    empty = [row["file"] for row in rows if not row["has_character"]][::9]
    found = [name for name in empty if find_letters(cv2.imread(str(shared("stills", name)), 0)) is not None]
    assert len(found) <= len(empty) // 25


def test_kohya_gets_the_loss_weights_as_alpha_and_the_native_trainer_plain_plates(tmp_path: Path) -> None:
    lay(tmp_path, film(1), {name: {"guessed": 0.25} for name in film(1)})
    run(tmp_path, train={"backend": "kohya", "guessed_weight": 0.4})
    path = next((tmp_path / "datasets").rglob("*.png"))
    alpha = read_rgba(path)[..., 3]
    assert set(np.unique(alpha)) == {102, 255} and (alpha[:36] == 102).all() and (alpha[36:] == 255).all()
    assert remark(tmp_path, "scene-00")["masks"] == 5
    run(tmp_path, train={"backend": "native"})
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape[2] == 3


def test_triggers_are_short_plain_and_all_different() -> None:
    made = triggers("harbor", {"scene-00": "harbor 1", "scene-01": "Old Town!", "scene-02": "old town"}, {})
    assert made == {"scene-00": "hrbr_1", "scene-01": "hrbr_old_town", "scene-02": "hrbr_old_town_02"}
    assert triggers("映画", {"scene-00": "港", "scene-01": "Café"}, {}) == {"scene-00": "scene_00", "scene-01": "cafe"}
    assert triggers("x", {"scene-00": "a"}, {"scene-00": "mine", "scene-07": "a"}) == {"scene-00": "mine"}


@pytest.mark.parametrize(
    ("trigger", "folder"), [("hrbr 1", "5_hrbr_1"), ("../x", "5_x"), ("漢字", "5_scene"), ("a<b>?", "5_a_b")]
)
def test_a_folder_name_is_safe_on_every_file_system(trigger: str, folder: str) -> None:
    assert folder_name(5, trigger) == folder


@pytest.mark.parametrize(
    ("shots", "held"),
    [
        ({"a": 3}, []),  # three plates: all are needed
        ({"a": 4}, ["a/2"]),
        ({"a": 10, "b": 10, "c": 9, "d": 3}, ["d/0", "d/1", "d/2"]),  # a whole shot of about a tenth
        ({"a": 10, "b": 10}, ["a/5", "b/5"]),
    ],
)
def test_what_is_held_out(shots: dict[str, int], held: list[str]) -> None:
    names = [f"{shot}/{k}" for shot, count in shots.items() for k in range(count)]
    assert list(hold_out(names, 0.1)) == held
    assert hold_out(names, 0.0) == ()


def test_the_target_takes_plates_that_are_far_apart_sharp_and_little_guessed() -> None:
    rng = np.random.default_rng(0)

    def candidate(name: str, angle: float, guessed: float = 0.0, sharp: float = 100.0) -> Candidate:
        vector = np.array([np.cos(angle), np.sin(angle)], np.float32)
        return Candidate(name, sharp, guessed, rng.uniform(0, 255, (36, 64, 3)).astype(np.float32), vector)

    many = [candidate(f"s/{k}", 0.01 * k) for k in range(5)] + [candidate("t/0", 1.5), candidate("t/1", 1.5, 0.8)]
    choice = choose(many, 2, 1.0, 0.0)
    assert "t/0" in choice.trained and len(choice.trained) == 2 and "t/1" not in choice.trained
    assert len(choice.left) == 5


def test_a_slow_move_of_the_camera_does_not_outnumber_the_other_views() -> None:
    rng = np.random.default_rng(0)

    def candidate(name: str, angle: float) -> Candidate:
        vector = np.array([np.cos(angle), np.sin(angle)], np.float32)
        return Candidate(name, 100.0, 0.0, rng.uniform(0, 255, (36, 64, 3)).astype(np.float32), vector)

    slow = [candidate(f"a/{k:02d}", 0.01 * k) for k in range(18)]
    choice = choose([*slow, candidate("b/0", 1.0), candidate("c/0", 1.5)], 300, 1.0, 0.0)
    assert sum(name.startswith("a/") for name in choice.trained) == 8 and {"b/0", "c/0"} < set(choice.trained)
    assert {"a/00", "a/17"} < set(choice.trained)
    assert set(choice.left.values()) == {"a has given its share: 8 plates, the other shots 2"}
    assert len(choose(slow, 300, 1.0, 0.0).trained) == 18  # the only view there is
