"""The page as text: everything is in it, nothing escapes its quotes, nothing comes from outside."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bglora.engine.stage import Row
from bglora.project.decided import Decided
from bglora.report import build_report
from bglora.report.contents import Shot
from bglora.report.origins import engines_table, shot_origins
from bglora.settings import Settings
from tests.report.recorded import EVIL, RecordedView, full_project


class Elements(HTMLParser):
    """All elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[RecordedView, Path]:
    view = full_project(tmp_path_factory.mktemp("film"))
    return view, build_report(view.root, view, view.status())


@pytest.fixture(scope="module")
def page(full: tuple[RecordedView, Path]) -> str:
    return full[1].read_text(encoding="utf-8")


def test_it_lies_where_the_folder_plan_says(full: tuple[RecordedView, Path]) -> None:
    view, path = full
    assert path == view.root / "report" / "index.html"
    assert [each.name for each in path.parent.iterdir()] == ["index.html"]


def test_names_are_escaped_everywhere(page: str) -> None:
    elements = Elements(page)
    assert "alert(1)</script>" not in page
    assert len(elements.all("script")) == 1
    assert elements.text.count(EVIL) >= 10, "the name itself must be readable"


def test_nothing_comes_from_outside(page: str) -> None:
    sources = [
        value for _, attributes in Elements(page).found for key, value in attributes.items() if key in {"src", "href"}
    ]
    assert sources
    assert all(str(source).startswith(("data:image/webp;base64,", "#")) for source in sources)
    assert "url(" not in page
    policy = next(each["content"] for each in Elements(page).all("meta") if "http-equiv" in each)
    assert str(policy).startswith("default-src 'none'; img-src data:;")


def test_every_picture_has_words_and_a_size(page: str) -> None:
    pictures = [each for each in Elements(page).all("img") if each.get("class") != "layer"]
    assert len(pictures) > 30
    assert all(each["alt"] for each in pictures)
    assert all(int(str(each["width"])) <= 1440 and int(str(each["height"])) > 0 for each in pictures)


def test_headings_and_landmarks_make_an_outline(page: str) -> None:
    elements = Elements(page)
    assert [len(elements.all(tag)) for tag in ("h1", "main", "nav", "footer")] == [1, 1, 1, 1]
    levels = [int(tag[1]) for tag, _ in elements.found if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False)), levels


def test_ids_are_unique_and_labels_point_at_something(page: str) -> None:
    elements = Elements(page)
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    pointed = {attributes["aria-labelledby"] for _, attributes in elements.found if "aria-labelledby" in attributes}
    pointed |= {str(attributes["href"])[1:] for attributes in elements.all("a")}
    assert pointed <= set(ids)


def test_a_shot_shows_frame_mask_plate_and_where_its_pixels_come_from(page: str) -> None:
    alts = [str(each["alt"]) for each in Elements(page).all("img")]
    assert "Frame 1 of harbor" in alts
    assert "Mask of frame 1: characters on 4.0 % of it, their shadows and reflections on 0.8 %" in alts
    assert "Plate of frame 1, without characters" in alts
    # 4 + 4 + 3 plates (one is dropped) of at most four samples a shot, and all 14 on the contact sheet
    assert page.count('class="layer"') == 10 + 1 + 14


def test_what_is_counted_stands_beside_every_count(tmp_path: Path) -> None:
    view = full_project(tmp_path)
    view.tables["train"].append(Row("character-kid", "character-kid", "made", "", (), {}))
    status = [
        replace(one, counts={"train": "LoRAs", "cluster": "sorted plates"}[one.stage])
        for one in view.status()
        if one.stage in ("train", "cluster")
    ]
    text = Elements(build_report(view.root, view, status).read_text(encoding="utf-8")).text
    loras = sum(row.status == "made" for row in view.tables["train"])
    assert f"{loras} LoRAs" in text.partition("Pipeline")[0], "of places and of characters"
    assert f"train{loras}LoRAs" in text and re.search(r"cluster\d+sorted plates", text)


def test_a_shot_says_what_was_recovered_and_why_the_rest_was_not(page: str) -> None:
    text = Elements(page).text
    assert "Behind the characters, 5.0 % of the frame: 80.0 % recovered from other frames; 18.0 % never" in text
    assert "2.0 % not trusted: the camera could not be followed" in text
    assert "Guesses by patch" in text and "All 14 plates at a glance" in text


def test_a_shot_says_which_other_shots_gave_background() -> None:
    shares = {"hole": 0.05, "recovered": 0.04, "guessed": 0.01, "untrusted": 0.0}
    rows = [
        Row("film-s000", f"film-s000/{k:06d}", "made", "", (), {**shares, "revisited": {"film-s004": 0.02 * k}})
        for k in range(2)
    ]
    (line,) = shot_origins(Shot("film-s000", "film", rows=rows))[:1]
    assert "80.0 % recovered from other frames (20.0 % from film-s004, where the camera" in str(line)


def test_the_table_of_engines_is_shown_and_a_broken_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "plates" / "engines.json"
    path.parent.mkdir()
    means = {"holes": 3, "hole_psnr_db": 17.25, "hole_ssim": 0.5}
    part = {"from": 0.01, "below": 0.05, "best": EVIL, "engines": {EVIL: means, "patch": means}}
    path.write_text(json.dumps({"bins": [part]}), encoding="utf-8")
    shown = engines_table(tmp_path)
    assert "1.0 % to 5.0 %" in shown and "17.2" in shown and "<script>" not in shown and shown.count("<b>") == 1
    path.write_text('{"bins": [{"engines": 3}]}', encoding="utf-8")
    assert engines_table(tmp_path) == "" and engines_table(tmp_path / "nowhere") == ""


def test_what_is_dropped_failed_or_left_out_says_why(page: str) -> None:
    text = Elements(page).text
    assert f"dropped: more than half is guessed {EVIL}" in text
    assert "Frames 0–3 left out: fade." in text
    assert "ends in the middle\nx.mp4\ncopy it again" in text


def test_a_place_shows_captions_curve_verdict_grid_and_compositions(page: str) -> None:
    text = Elements(page).text
    for words in (
        "town_1, background, quay 0",
        "too weak",
        "likeness 0.31 (0.25 to 0.40)",
        "scale 0.5",
        "base alone",
        "use it at 0.7",
        "fisher 1",
        "seed 4",
    ):
        assert words in text
    assert "Training loss of Harbor town over 160 optimizer steps" in text
    assert "Learning rate of Harbor town over 160 optimizer steps: from 0.0001 to 0.0001" in text
    assert "Seconds a step of Harbor town over 160 optimizer steps: from 0.052 to 0.052" in text
    assert "52 ms" in text


@pytest.mark.parametrize("lost", ["frames/harbor-s000/000000.png", "plates/harbor-s000/000000.png"])
def test_a_picture_that_is_gone_or_broken_is_said_in_its_place(tmp_path: Path, lost: str) -> None:
    view = full_project(tmp_path)
    (tmp_path / lost).unlink()
    (tmp_path / "provenance/harbor-s000/000001.png").write_bytes(b"no picture")
    (tmp_path / "segmented/masks/harbor-s000/000001.png").write_bytes(b"no picture")
    text = Elements(build_report(tmp_path, view, view.status()).read_text(encoding="utf-8")).text
    assert "the file is gone" in text
    assert "the file can't be read" in text


def test_a_path_out_of_the_project_is_not_opened(tmp_path: Path) -> None:
    view = full_project(tmp_path / "film")
    secret = tmp_path / "secret.png"
    (view.root / "plates/harbor-s000/000000.png").rename(secret)
    for stage in ("inpaint", "test", "compose"):
        view.tables[stage] = [
            Row(row.item, row.picture, row.status, "", ("plates/../../secret.png",), {"grid": "../secret.png"})
            for row in view.tables[stage]
        ]
    page = build_report(view.root, view, view.status()).read_text(encoding="utf-8")
    assert "Plate of frame" not in page
    assert "Test pictures" not in page


def test_a_grid_without_single_pictures_shows_its_sheet(tmp_path: Path) -> None:
    view = full_project(tmp_path)
    view.tables["test"] = [
        Row(row.item, row.picture, "made", "", row.outputs[:1], row.record) for row in view.rows("test")
    ]
    alts = [each["alt"] for each in Elements(build_report(tmp_path, view, view.status()).read_text("utf-8")).all("img")]
    assert "Test pictures of Harbor town: prompts by scales and seeds" in alts


def test_an_empty_project_says_the_first_command(tmp_path: Path) -> None:
    view = RecordedView(tmp_path, Settings(project={"name": "harbor"}))  # type: ignore[arg-type]
    text = Elements(build_report(tmp_path, view, view.status()).read_text(encoding="utf-8")).text
    assert "Nothing is made yet. The whole way: bglora run --all" in text


def test_a_project_with_frames_only_waits_for_masks_and_plates(tmp_path: Path) -> None:
    view = full_project(tmp_path)
    view.tables = {"ingest": [row for row in view.tables["ingest"] if row.status == "made"]}
    view.remarks = {key: value for key, value in view.remarks.items() if key[0] == "ingest"}
    text = Elements(build_report(tmp_path, view, view.status()).read_text(encoding="utf-8")).text
    assert "not segmented yet: bglora segment" in text
    assert "Next is segment. The rest of the way: bglora run --all" in text


def test_a_shot_whose_masks_were_dropped_says_that_it_gets_no_plates(tmp_path: Path) -> None:
    view = full_project(tmp_path)
    view.tables["segment"] = [
        Row(row.item, row.picture, "dropped", "parallax", (), {}) if row.item == "harbor-s001" else row
        for row in view.rows("segment")
    ]
    view.tables["inpaint"] = [row for row in view.rows("inpaint") if row.item != "harbor-s001"]
    text = Elements(build_report(tmp_path, view, view.status()).read_text("utf-8")).text
    assert text.count("dropped: parallax") == 4 and text.count("no plate without a mask") == 4


def test_what_stages_decided_stands_with_the_commands_that_change_it(tmp_path: Path) -> None:
    view = full_project(tmp_path)
    told = [Decided("ingest", f"Kept 15 of 48 frames {EVIL}.", "More: `bglora set ingest.fps 4`.")]
    page = build_report(tmp_path, view, view.status(), told).read_text("utf-8")
    assert f"Kept 15 of 48 frames {EVIL}. More: bglora set ingest.fps 4." in Elements(page).text
    assert "<code>bglora set ingest.fps 4</code>." in page


def test_failures_name_the_command_that_tries_again(page: str) -> None:
    words = "1 picture failed in ingest. When the cause is mended: bglora retry --stage ingest and bglora run --all"
    assert words in Elements(page).text
