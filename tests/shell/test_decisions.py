"""Decisions: the file that a person may edit, and what it means."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from bglora.decisions import Decisions
from bglora.errors import UserError


def test_no_file_means_no_decisions(tmp_path: Path) -> None:
    decisions = Decisions.load(tmp_path)
    assert decisions.drops("a/000001") is None
    assert not decisions.keeps("a/000001")
    assert decisions.retries("inpaint") == {}
    assert decisions.about("pictures", ["a/000001"]) == {}
    assert list(tmp_path.iterdir()) == []


def test_the_later_decision_about_a_picture_counts(tmp_path: Path) -> None:
    decisions = Decisions.load(tmp_path)
    decisions = decisions.add("drop", drop="harbor-s003/*", reason="too dark")
    decisions = decisions.add("keep", keep="harbor-s003/000060")
    assert decisions.keeps("harbor-s003/000060")
    assert decisions.drops("harbor-s003/000061") == "too dark"
    decisions = decisions.add("drop", drop="harbor-s003/0000[6]?", reason="")
    assert not decisions.keeps("harbor-s003/000060")
    assert decisions.drops("harbor-s003/000060") == ""
    assert decisions == Decisions.load(tmp_path)
    assert decisions.about("pictures", ["harbor-s003/000000", "x"]) == {"harbor-s003/000000": "drop: too dark"}


def test_taking_a_drop_back_leaves_no_trace_of_it(tmp_path: Path) -> None:
    decisions = Decisions.load(tmp_path).add("drop", drop="a/1", reason="x").add("keep", keep="a/1")
    assert decisions.entries == () == Decisions.load(tmp_path).entries
    decisions = decisions.add("rename", rename="scene-00", title="Pier")
    assert decisions.add("drop", drop="a/*", reason="").add("keep", keep="a/*") == decisions
    assert decisions.add("keep", keep="a/1").keeps("a/1"), "asked for a second time it is a keep"


def test_what_was_kept_before_a_drop_is_kept_again_once_that_is_taken_back(tmp_path: Path) -> None:
    decisions = Decisions.load(tmp_path).add("keep", keep="a/1")
    decisions = decisions.add("drop", drop="a/1", reason="")
    assert decisions.drops("a/1") == ""
    assert decisions.add("keep", keep="a/1").keeps("a/1")


@pytest.mark.parametrize("other", ["a/*", "*", "a/[0-9]"])
def test_taking_one_drop_back_outweighs_another_that_speaks_of_the_picture(tmp_path: Path, other: str) -> None:
    decisions = Decisions.load(tmp_path).add("drop", drop=other, reason="").add("drop", drop="a/1", reason="")
    decisions = decisions.add("keep", keep="a/1")
    assert decisions.keeps("a/1")
    assert decisions.drops("a/2") == ""


def test_asking_again_is_counted(tmp_path: Path) -> None:
    decisions = Decisions.load(tmp_path)
    for _ in range(3):
        decisions = decisions.add("retry", retry="*", stage="inpaint")
    decisions = decisions.add("retry", retry="*", stage="")
    assert decisions.retries("inpaint") == {"*": 4}
    assert decisions.retries("train") == {"*": 1}


def test_scenes_are_renamed_merged_and_split(tmp_path: Path) -> None:
    decisions = (
        Decisions.load(tmp_path)
        .add("rename", rename="scene-00", title="Pier")
        .add("rename", rename="scene-00", title="The 'pier' \"漢字\"")
        .add("merge", merge=["scene-02", "scene-03"], into="scene-00")
        .add("split", split="scene-01", plates=["a/*"])
        .add("split", split="scene-01", plates=["b/*"])
    )
    decisions = Decisions.load(tmp_path)
    assert decisions.renames() == {"scene-00": "The 'pier' \"漢字\""}
    assert decisions.merges() == [("scene-00", ["scene-02", "scene-03"])]
    assert [one["plates"] for one in decisions.splits()] == [["a/*"], ["b/*"]]
    assert decisions.about("merge", ["scene-02"]) == {"scene-00": ["scene-02", "scene-03"]}
    assert decisions.about("rename", ["scene-05"]) == {}


def test_comments_of_a_person_stay(tmp_path: Path) -> None:
    path = tmp_path / "decisions.toml"
    path.write_text('# why I did it\n[[decision]]\ndrop = "a/1" # ugly\nreason = ""\n', encoding="utf-8")
    Decisions.load(tmp_path).add("keep", keep="b/1")
    text = path.read_text(encoding="utf-8")
    assert text.startswith('# why I did it\n[[decision]]\ndrop = "a/1" # ugly\n')
    assert 'keep = "b/1"' in text
    Decisions.load(tmp_path).add_all([("drop", {"drop": "c/1", "reason": ""}), ("keep", {"keep": "b/2"})])
    Decisions.load(tmp_path).add("keep", keep="c/1")
    text = path.read_text(encoding="utf-8")
    assert text.startswith('# why I did it\n[[decision]]\ndrop = "a/1" # ugly\n')
    assert text.count("[[decision]]") == 3 and "c/1" not in text


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[[decision]\n", "not valid TOML"),
        ("[drop]\nx = 1\n", r"\[drop\] is no decision"),
        ('[[decision]]\nerase = "a"\n', "entry 1 decides nothing"),
        ('[[decision]]\ndrop = "a"\nfor = 1\n', "entry 1 .drop. has a key 'for'"),
        ("[[decision]]\ndrop = 3\n", "drop = 3 is no text"),
        ('[[decision]]\nrename = "scene-00"\n', "entry 1 .rename. lacks title"),
        ('[[decision]]\nmerge = [1]\ninto = "scene-00"\n', "merge = .1. is no value"),
    ],
)
def test_an_entry_that_says_nothing_is_told(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "decisions.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=what):
        Decisions.load(tmp_path)


def test_thousands_of_decisions_are_looked_up_fast(tmp_path: Path) -> None:
    import time

    entries = "".join(f'[[decision]]\ndrop = "a-s{n:03d}/000000"\n' for n in range(2000))
    (tmp_path / "decisions.toml").write_text(entries, encoding="utf-8")
    decisions = Decisions.load(tmp_path)
    names = [f"a-s{n % 5000:03d}/{n:06d}" for n in range(20_000)]
    started = time.process_time()
    decisions.about("pictures", names)
    assert time.process_time() - started < 1.0


def test_thousands_of_decisions_are_written_and_taken_back_fast(tmp_path: Path) -> None:
    import time

    names = [f"a-s{n // 5:04d}/{n:06d}" for n in range(2_000)]
    started = time.process_time()
    decisions = Decisions(tmp_path).add_all(("drop", {"drop": name, "reason": ""}) for name in names)
    assert len(decisions.entries) == len(names)
    assert decisions.add_all(("keep", {"keep": name}) for name in names[1:]).entries == decisions.entries[:1]
    assert time.process_time() - started < 15.0, "a look at all for each takes minutes"


def test_somebody_is_pointed_out_by_a_box_or_by_points(tmp_path: Path) -> None:
    (tmp_path / "decisions.toml").write_text(
        '[[decision]]\nprompt = "harbor-s003/000060"\nbox = [412, 80.5, 540, 330]\n'
        '[[decision]]\nprompt = "harbor-s003/000060"\npoints = [[470, 200, 1], [10, 12, 0]]\n'
        '[[decision]]\nprompt = "harbor-s0/000001"\nbox = [1, 2, 3, 4]\n'
    )
    decisions = Decisions.load(tmp_path)
    told = {
        "harbor-s003/000060": [
            {"box": [412, 80.5, 540, 330], "points": []},
            {"box": [], "points": [[470, 200, 1], [10, 12, 0]]},
        ]
    }
    assert decisions.prompts("harbor-s003") == told
    assert decisions.prompts("harbor-s00") == {}
    more = decisions.add("prompt", prompt="harbor-s003/000060", points=[[1, 2, 1]])
    assert len(more.prompts("harbor-s003")["harbor-s003/000060"]) == 3, "one more character, none replaced"
    assert Decisions.load(tmp_path) == more


@pytest.mark.parametrize(
    "entry, why",
    [
        ('prompt = "a-s000/000001"', "points nobody out"),
        ('prompt = "a-s000/000001"\npoints = [[4, 5, 0]]', "points nobody out"),
        ('prompt = "a-s000/000001"\npoints = [[4, 5]]', "points that are not x, y and 0 or 1"),
        ('prompt = "a-s000/000001"\nbox = [4, 5, 2, 9]', "no box"),
        ('prompt = "a-s000/000001"\nbox = [4, "5", 8, 9]', "no box"),
        ('prompt = "a-s000/*"\nbox = [1, 2, 3, 4]', "names no frame"),
    ],
)
def test_a_prompt_that_says_nothing_is_told(tmp_path: Path, entry: str, why: str) -> None:
    (tmp_path / "decisions.toml").write_text(f"[[decision]]\n{entry}\n")
    with pytest.raises(UserError, match=why):
        Decisions.load(tmp_path)


def test_of_two_choices_for_a_scene_the_later_one_counts(tmp_path: Path) -> None:
    entries = [f'[[decision]]\nchoose = "scene-00"\ncheckpoint = "loras/{name}"\n' for name in ("first", "second")]
    (tmp_path / "decisions.toml").write_text("".join(entries))
    assert Decisions.load(tmp_path).choice("scene-00") == ("loras/second", 0.0)
    assert Decisions.load(tmp_path).choice("scene-01") is None


def test_two_who_decide_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    together = Barrier(4)

    def decide(hand: int) -> None:
        decisions = Decisions(tmp_path)
        together.wait()
        for number in range(8):
            decisions.add("drop", drop=f"shot-{hand}/{number:06d}", reason="")

    with ThreadPoolExecutor(4) as hands:
        list(hands.map(decide, range(4)))
    assert len(Decisions.load(tmp_path).entries) == 32
