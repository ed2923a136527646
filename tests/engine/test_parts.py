"""The engine's small parts: fingerprints, explanations, spreading, safe paths, records, the view."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bglora.engine.files import check_output, safe_name
from bglora.engine.fingerprint import about_text, canonical, explain, fingerprint, inputs_text
from bglora.engine.stage import Item
from bglora.engine.tools import seed_of
from bglora.engine.view import spread
from tests.engine.projects import Project
from tests.engine.toys import Double, contents

ITEM = Item("a", ("a/0", "a/1"), ("x.png", "y.png"), {"inpaint.steps": 50}, backend="patch/1")


def described(item: Item, digests: dict[str, str]) -> tuple[str, str]:
    return about_text(Double(), item), inputs_text(item.files, lambda path: digests.get(path, "-"))


def reasons(new: Item, digests: dict[str, str]) -> list[str]:
    old = described(ITEM, {"x.png": "1", "y.png": "2"})
    return explain("double", *old, *described(new, digests))


SAME = {"x.png": "1", "y.png": "2"}


@pytest.mark.parametrize(
    ("new", "digests", "said"),
    [
        (ITEM, SAME, []),
        (Item("a", ITEM.pictures, ITEM.files, {"inpaint.steps": 8}, backend="patch/1"), SAME,
         ["settings changed: inpaint.steps 50 → 8"]),
        (Item("a", ITEM.pictures, ITEM.files, {}, backend="patch/1"), SAME,
         ["settings changed: inpaint.steps 50 → unset"]),
        (Item("a", ITEM.pictures, ITEM.files, ITEM.settings, backend="lama/2"), SAME,
         ["backend changed: patch/1 → lama/2"]),
        (Item("a", ("a/0",), ITEM.files, ITEM.settings, backend="patch/1"), SAME,
         ["pictures changed: 0 more, 1 less"]),
        (Item("a", ITEM.pictures, ITEM.files, ITEM.settings, {"keep": ["a/1"]}, backend="patch/1"), SAME,
         ["decision changed: a/1"]),
        (Item("a", ITEM.pictures, ITEM.files, ITEM.settings, {"pictures": {"a/1": "keep", "a/0": "drop: "}},
              backend="patch/1"), SAME,
         ["decision changed: a/0 and 1 more"]),
        (Item("a", ITEM.pictures, ITEM.files, ITEM.settings, {"pictures": {}}, backend="patch/1"), SAME,
         ["decision changed: pictures"]),
        (ITEM, {"x.png": "1", "y.png": "3"}, ["input changed: y.png"]),
        (ITEM, {"x.png": "4", "y.png": "3"}, ["input changed: x.png and 1 more"]),
        (ITEM, {"x.png": "1"}, ["input missing: y.png"]),
        (Item("a", ITEM.pictures, (*ITEM.files, "z.png"), ITEM.settings, backend="patch/1"), {**SAME, "z.png": "9"},
         ["new input: z.png"]),
        (Item("a", ITEM.pictures, ("y.png", "x.png"), ITEM.settings, backend="patch/1"), SAME,
         ["inputs changed: their order"]),
    ],
)  # fmt: skip
def test_every_difference_is_said_in_words(new: Item, digests: dict[str, str], said: list[str]) -> None:
    assert reasons(new, digests) == said
    old_mark = fingerprint("double", *described(ITEM, SAME))
    assert (fingerprint("double", *described(new, digests)) == old_mark) == (not said)


def test_paths_do_not_count_contents_do() -> None:
    moved = Item("a", ITEM.pictures, ("p.png", "q.png"), ITEM.settings, backend="patch/1")
    assert fingerprint("double", *described(moved, {"p.png": "1", "q.png": "2"})) == fingerprint(
        "double", *described(ITEM, SAME)
    )


def test_values_that_are_no_json_are_refused() -> None:
    with pytest.raises(TypeError):
        canonical({"path": Path("x")})
    with pytest.raises(ValueError):
        canonical({"score": float("nan")})


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x.png", "a/../../x", ".bglora/ledger.sqlite", "a//b", "./a", "con.png", "a/LPT1", "a\nb",
     "a:b", "trailing.", "x" * 250],
)  # fmt: skip
def test_output_paths_that_leave_the_project_or_break_a_system_are_refused(path: str) -> None:
    with pytest.raises(ValueError):
        check_output(path)


def test_good_output_paths_pass() -> None:
    for path in ("plates/harbor-s003/000060.png", "datasets/scene-00/5_漢字/a.txt", "loras/-x.json"):
        check_output(path)


def test_names_of_any_kind_make_short_distinct_folder_names() -> None:
    names = ["a", "a b", "a/b", "..", "-x", "<script>", "漢字", "x" * 500, 'q"uote']
    safe = [safe_name(name) for name in names]
    assert len(set(safe)) == len(names)
    assert all(len(name) <= 60 and not set(name) & set('<>:"/\\|?* ') for name in safe)


def test_a_limit_spreads_evenly_over_shots_and_within_them() -> None:
    pictures = [f"s{shot}/{frame:06d}" for shot in range(4) for frame in range(10)]
    chosen = spread(pictures, 8)
    assert sorted(chosen) == sorted(f"s{shot}/{frame:06d}" for shot in range(4) for frame in (2, 7))
    assert len(spread(pictures, 2)) == 2 and len({name.split("/")[0] for name in spread(pictures, 2)}) == 2
    assert spread(pictures, None) == spread(pictures, 99) == set(pictures)
    assert spread(pictures, 0) == set()
    uneven = ["a/0", *[f"b/{k}" for k in range(9)]]
    assert "a/0" in spread(uneven, 5) and len(spread(uneven, 5)) == 5


def test_seeds_come_from_names_alone() -> None:
    assert seed_of("film", "inpaint", "s1") == seed_of("film", "inpaint", "s1") == 425336913
    assert len({seed_of("film", "inpaint", f"s{k}") for k in range(100)}) == 100


def test_records_are_one_sorted_json_line_a_picture(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.source("b", "one", "", "bad")
    project.source("a", "two")
    project.run()
    lines = [json.loads(line) for line in project.read("doubled/double-records.jsonl").splitlines()]
    assert [(line["picture"], line["status"], line["reason"]) for line in lines] == [
        ("a/00", "made", ""), ("b/00", "made", ""), ("b/01", "dropped", "empty"), ("b/02", "failed", "a bad line")
    ]  # fmt: skip
    assert set(lines[0]) == {"item", "picture", "status", "reason", "fingerprint", "outputs", "record"}
    assert list(lines[0]["outputs"]) == ["doubled/a/00.txt"] and len(lines[0]["fingerprint"]) == 32


def test_the_view_gives_rows_remarks_and_their_texts(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.source("a", "one", "two")
    project.run()
    view = project.runner().view()
    rows = view.rows("split")
    assert [(row.picture, row.item, row.status, row.outputs) for row in rows] == [
        ("a/00", "a", "made", ("lines/a/00.txt",)),
        ("a/01", "a", "made", ("lines/a/01.txt",)),
    ]
    assert rows[0].record == {"length": 3}
    assert view.item_record("split", "a") == {"count": 2} and view.item_record("split", "z") == {}
    view.close()


def test_events_are_json(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.source("a", "one", "boom")
    project.run()
    kinds = [json.loads(json.dumps(event.to_json()))["event"] for event in project.events]
    assert kinds[:4] == ["stage-started", "item-started", "item-finished", "stage-finished"]
    assert "item-failed" in kinds and "item-progress" in kinds
    assert not any(str(tmp_path) in text.decode() for text in contents(tmp_path).values())


def test_plans_and_status_are_json(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.source("a", "one")
    plan = json.loads(json.dumps(project.runner().plan().to_json()))
    assert plan["stages"][0]["todo"] == [{"item": "a", "reasons": ["new"], "pictures": 0}]
    assert plan["stages"][1]["waits_for"] == ["split"]
    assert [one.to_json()["todo"] for one in project.runner().status()] == [1, 0, 0]
