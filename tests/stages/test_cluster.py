"""`cluster`: places are found, names are passed on, decisions of a person count."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from bglora.decisions import Decisions
from bglora.errors import UserError
from tests.shared import shared
from tests.stages.drawn_plates import film, lay, place, records, run, runner, scenes


def by_id(root: Path) -> dict[str, list[str]]:
    return {scene["id"]: scene["plates"] for scene in scenes(root)["scenes"]}


def harbor(every: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    truth = json.loads(shared("films", "harbor", "truth", "truth.json").read_text("utf-8"))
    plates, places = {}, {}
    for shot in truth["shots"]:
        for k in range(0, shot["count"], every):
            file = shot["plates"][0 if len(shot["plates"]) == 1 else k]
            name = f"harbor-s{shot['shot']:03d}/{shot['first'] + k:06d}"
            picture = cv2.imread(str(shared("films", "harbor", "truth", file)))
            plates[name], places[name] = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), shot["place"]
    return plates, places


@pytest.mark.parametrize("every", [5, 12])
def test_four_places_of_the_sample_film_are_four_scenes(tmp_path: Path, every: int) -> None:
    plates, places = harbor(every)
    lay(tmp_path, plates)
    run(tmp_path, "inpaint", "cluster")
    found = [{places[plate] for plate in group} for group in by_id(tmp_path).values()]
    assert sorted(map(sorted, found)) == [["beach"], ["harbor town"], ["room"], ["sea floor"]]
    assert scenes(tmp_path)["noise"] == []


def test_places_of_a_drawn_film_are_told_apart_and_shots_stay_whole(tmp_path: Path) -> None:
    lay(tmp_path, film(3))
    run(tmp_path, "inpaint", "cluster")
    groups = by_id(tmp_path)
    assert list(groups) == ["scene-00", "scene-01", "scene-02"]
    assert [{plate.partition("/")[0] for plate in group} for group in groups.values()] == [
        {"film-s000", "film-s001"},
        {"film-s002", "film-s003"},
        {"film-s004", "film-s005"},
    ]
    assert [scene["title"] for scene in scenes(tmp_path)["scenes"]] == ["film 1", "film 2", "film 3"]
    assert (tmp_path / "scenes/scene-02.webp").stat().st_size > 500
    row = records(tmp_path, "scenes/plates.jsonl")["film-s002/000001"]["record"]
    assert row["scene"] == "scene-01" and 0.5 < row["score"] <= 1


def test_shot_1000_comes_after_shot_999(tmp_path: Path) -> None:
    early, late = film(1), film(2)
    plates = {name.replace("s000", "s999").replace("s001", "s999"): picture for name, picture in early.items()}
    plates |= {name.replace("s002", "s1000"): picture for name, picture in late.items() if "s002" in name}
    lay(tmp_path, plates)
    run(tmp_path, "inpaint", "cluster")
    assert {plate.partition("/")[0] for plate in by_id(tmp_path)["scene-00"]} == {"film-s999"}


def test_the_same_place_in_two_films_is_one_scene(tmp_path: Path) -> None:
    lay(tmp_path, {**film(2, name="one"), **{f"two-s000/{k:06d}": place(1, 1, 4 * k) for k in range(3)}})
    run(tmp_path, "inpaint", "cluster")
    assert ["two-s000" in {p.partition("/")[0] for p in group} for group in by_id(tmp_path).values()] == [False, True]


def test_one_plate_a_scene_and_a_single_plate_are_no_empty_result(tmp_path: Path) -> None:
    lay(tmp_path / "four", {f"film-s{k:03d}/000000": place(2 * k, 0) for k in range(4)})
    run(tmp_path / "four", "inpaint", "cluster")
    assert len(by_id(tmp_path / "four")) == 4
    assert "small film" in scenes(tmp_path / "four")["notice"]
    lay(tmp_path / "one", {"film-s000/000000": place(0, 0)})
    run(tmp_path / "one", "inpaint", "cluster")
    assert by_id(tmp_path / "one") == {"scene-00": ["film-s000/000000"]}


def test_no_plates_are_told_in_three_lines(tmp_path: Path) -> None:
    lay(tmp_path, {})
    with pytest.raises(UserError) as told:
        run(tmp_path, "inpaint", "cluster")
    assert str(told.value).splitlines()[0] == "There are no plates to sort into scenes."
    assert "bglora run --to inpaint" in told.value.cure


def test_plates_with_nothing_to_learn_from_are_noise_with_the_reason(tmp_path: Path) -> None:
    plates = film(2)
    plates["film-s000/000000"] = np.zeros_like(plates["film-s000/000000"])
    plates["film-s001/000002"] = cv2.GaussianBlur(plates["film-s001/000002"], (0, 0), 6)
    lay(tmp_path, plates, {"film-s002/000001": {"guessed": 0.3, "untrusted": 0.2}})
    run(tmp_path, "inpaint", "cluster")
    reasons = {name: row["reason"] for name, row in records(tmp_path, "scenes/plates.jsonl").items() if row["reason"]}
    assert reasons == {
        "film-s000/000000": "noise: nearly all of it is black",
        "film-s001/000002": "noise: blurred beside the other plates of its shot",
        "film-s002/000001": "noise: 50% of it is a guess",
    }
    assert scenes(tmp_path)["noise"] == sorted(reasons)


def test_a_kept_plate_goes_to_its_nearest_scene_and_a_dropped_one_out(tmp_path: Path) -> None:
    lay(tmp_path, film(2), {"film-s002/000001": {"guessed": 0.5}})
    Decisions.load(tmp_path).add("keep", keep="film-s002/000001").add("drop", drop="film-s000/*", reason="too dark")
    run(tmp_path, "inpaint", "cluster")
    groups = list(by_id(tmp_path).values())
    assert any("film-s002/000001" in group and "film-s003/000000" in group for group in groups)
    rows = records(tmp_path, "scenes/plates.jsonl")
    assert rows["film-s000/000001"]["reason"] == "dropped by you: too dark"
    assert scenes(tmp_path)["noise"] == []


def test_a_kept_plate_follows_its_scene_through_two_merges(tmp_path: Path) -> None:
    lay(tmp_path, film(3), {"film-s000/000001": {"guessed": 0.5}})
    run(tmp_path, "inpaint", "cluster")
    home = next(name for name, group in by_id(tmp_path).items() if "film-s000/000000" in group)
    other, last = (name for name in by_id(tmp_path) if name != home)
    decisions = Decisions.load(tmp_path).add("keep", keep="film-s000/000001")
    decisions.add("merge", merge=[home], into=other).add("merge", merge=[other], into=last)
    run(tmp_path, "inpaint", "cluster")
    assert list(by_id(tmp_path)) == [last]
    assert "film-s000/000001" in by_id(tmp_path)[last]


def test_plates_that_are_all_unfit_are_sorted_with_a_notice(tmp_path: Path) -> None:
    plates = film(1)
    lay(tmp_path, plates, dict.fromkeys(plates, {"guessed": 0.6}))
    run(tmp_path, "inpaint", "cluster")
    assert [len(group) for group in by_id(tmp_path).values()] == [len(plates)]
    assert "no plate is good enough (60% of it is a guess, say), so all are sorted" in scenes(tmp_path)["notice"]


def test_all_plates_dropped_is_an_item_that_failed_not_a_crash(tmp_path: Path) -> None:
    lay(tmp_path, film(1))
    Decisions.load(tmp_path).add("drop", drop="*", reason="")
    result = run(tmp_path, "inpaint", "cluster")
    assert result.exit_code == 1
    assert "All plates are dropped by you" in result.failures[0].reason


def test_a_second_run_redoes_nothing_and_two_projects_have_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        lay(tmp_path / name, film(2))
        run(tmp_path / name)
    assert run(tmp_path / "one").items == 0
    kept = [
        {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*")
         if path.is_file() and ".bglora" not in path.parts}
        for root in (tmp_path / "one", tmp_path / "two")
    ]  # fmt: skip
    assert kept[0] == kept[1]
    assert any(path.endswith(".txt") for path in kept[0])


def test_more_plates_keep_ids_and_titles_and_a_new_place_gets_a_new_id(tmp_path: Path) -> None:
    lay(
        tmp_path,
        {name: picture for name, picture in film(3).items() if not name.startswith(("film-s000", "film-s001"))},
    )
    run(tmp_path, "inpaint", "cluster")
    before = {scene["id"]: scene["title"] for scene in scenes(tmp_path)["scenes"]}
    lay(tmp_path, film(3))
    run(tmp_path, "inpaint", "cluster")
    after = {scene["id"]: (scene["title"], scene["plates"][0]) for scene in scenes(tmp_path)["scenes"]}
    assert before == {"scene-00": "film 1", "scene-01": "film 2"}
    assert after == {
        "scene-00": ("film 1", "film-s002/000000"),
        "scene-01": ("film 2", "film-s004/000000"),
        "scene-02": ("film 3", "film-s000/000000"),
    }


def test_ids_outlive_the_ledger_and_a_retired_scene_is_marked(tmp_path: Path) -> None:
    lay(tmp_path, film(3))
    run(tmp_path, "inpaint", "cluster")
    for path in sorted((tmp_path / ".bglora").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    Decisions.load(tmp_path).add("drop", drop="film-s00[01]/*", reason="")
    run(tmp_path, "inpaint", "cluster")
    assert list(by_id(tmp_path)) == ["scene-01", "scene-02"]
    assert [one["id"] for one in scenes(tmp_path)["retired"]] == ["scene-00"]
    lay(tmp_path, {f"film-s009/{k:06d}": place(5, 0, 4 * k) for k in range(3)})
    run(tmp_path, "inpaint", "cluster")
    assert list(by_id(tmp_path)) == ["scene-01", "scene-02", "scene-03"]


def test_rename_merge_and_split_count_and_their_undoing_gives_back_the_ids(tmp_path: Path) -> None:
    lay(tmp_path, film(3))
    run(tmp_path, "inpaint", "cluster")
    plain = by_id(tmp_path)
    decisions = Decisions.load(tmp_path).add("rename", rename="scene-02", title="The pier")
    decisions.add("merge", merge=["scene-01"], into="scene-00").add("split", split="scene-02", plates=["film-s005/*"])
    for _ in range(2):  # the second time on top of its own result
        run(tmp_path, "inpaint", "cluster", cluster={"min_samples": 2 + _})
        groups = by_id(tmp_path)
        assert list(groups) == ["scene-00", "scene-02", "scene-03"]
        assert groups["scene-00"] == sorted(plain["scene-00"] + plain["scene-01"])
        assert groups["scene-03"] == [plate for plate in plain["scene-02"] if plate.startswith("film-s005")]
        assert [scene["title"] for scene in scenes(tmp_path)["scenes"]] == ["film 1", "The pier", "film 3 (part)"]
        assert scenes(tmp_path)["retired"][0]["into"] == "scene-00"
    (tmp_path / "decisions.toml").unlink()
    run(tmp_path, "inpaint", "cluster")
    assert by_id(tmp_path) == plain
    assert [one["id"] for one in scenes(tmp_path)["retired"]] == ["scene-03"]


def test_plates_are_moved_into_a_scene_that_is_there_out_of_another_and_out_of_none(tmp_path: Path) -> None:
    lay(tmp_path, film(3), {"film-s000/000001": {"guessed": 0.5}})
    run(tmp_path, "inpaint", "cluster")
    plain = by_id(tmp_path)
    first, other = next(name for name, group in plain.items() if "film-s000/000000" in group), "scene-02"
    assert not any("film-s000/000001" in group for group in plain.values())
    Decisions.load(tmp_path).add("move", move=["film-s000/00000[01]", plain["scene-01"][0]], into=other)
    for _ in range(2):  # the second time on top of its own result
        run(tmp_path, "inpaint", "cluster", cluster={"min_samples": 2 + _})
        groups = by_id(tmp_path)
        assert {"film-s000/000000", "film-s000/000001", plain["scene-01"][0]} < set(groups[other])
        assert "film-s000/000000" not in groups[first] and list(groups) == list(plain)
    (tmp_path / "decisions.toml").unlink()
    run(tmp_path, "inpaint", "cluster")
    assert by_id(tmp_path) == plain
    merged = Decisions.load(tmp_path).add("merge", merge=["scene-01"], into="scene-00")
    merged.add("move", move=plain["scene-02"][:1], into="scene-01")
    run(tmp_path, "inpaint", "cluster")
    assert plain["scene-02"][0] in by_id(tmp_path)["scene-00"], "it goes along into what its scene became part of"
    (tmp_path / "decisions.toml").unlink()
    Decisions.load(tmp_path).add("move", move=["nobody/*"], into="scene-00").add(
        "move", move=["film-*"], into="scene-7"
    )
    run(tmp_path, "inpaint", "cluster")
    assert by_id(tmp_path) == plain
    assert "no plate outside it matches" in scenes(tmp_path)["notice"] and "no scene-7" in scenes(tmp_path)["notice"]


def test_a_decision_about_a_scene_that_is_not_there_is_said(tmp_path: Path) -> None:
    lay(tmp_path, film(2))
    Decisions.load(tmp_path).add("merge", merge=["scene-09"], into="scene-00")
    run(tmp_path, "inpaint", "cluster")
    assert "there is no scene-09" in scenes(tmp_path)["notice"]


def test_a_damaged_scenes_file_is_told_in_three_lines(tmp_path: Path) -> None:
    lay(tmp_path, film(1))
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes/scenes.json").write_text('{"scenes": [{"id": 3}]}')
    with pytest.raises(UserError, match="ids and titles can't be passed on"):
        runner(tmp_path).run()
