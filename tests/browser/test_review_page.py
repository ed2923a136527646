"""The page with hands, in Chromium, as a person uses it: decides, runs, and finds it in the dataset."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bglora
from bglora.decisions import Decisions
from bglora.film.png import read_picture, write_png
from tests.browser.contrast import CONTRAST, SMALL
from tests.browser.recorded_film import long_film, plate, record_lora
from tests.browser.served import PATIENCE_MS, chromium, served, tab
from tests.whole.drawn_film import place, shot, write_film

VIEWS = [(1280, False), (1280, True), (390, False), (390, True)]
NAMELESS = """
[...document.querySelectorAll("button, select, input, textarea, a")]
  .filter((e) => e.checkVisibility() && !e.ariaHidden)
  .filter((e) => !e.ariaLabel && !e.textContent.trim() && ![...(e.labels ?? [])].some((l) => l.textContent.trim()))
  .map((e) => e.outerHTML)
"""
"""Controls that a screen reader could not name."""

WITHOUT_PLATES = """async () => {
  const { platesAmong, project } = await import("/static/store.js");
  const ids = Object.keys(project.state.plates).slice(0, 30);
  [project.state.plates[ids[0]].status, project.state.plates[ids[1]].status] = ["dropped", "waiting"];
  return platesAmong(ids);
}"""
"""How thirty frames are counted where two of them have no plate."""

SETTINGS = ("ingest.fps=0", "ingest.max_per_shot=0")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def film(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project on three small places, after `caption`. Not to be written into."""
    folder = tmp_path_factory.mktemp("film")
    shots = (shot(place(3), 10), shot(place(5), 10, walker=False), shot(place(9), 10, walker=False))
    root = bglora.init(folder / "work", films=[write_film(folder / "film.mp4", chain(*shots))]).root
    assert bglora.open(root, given=SETTINGS, jobs=1).run(to="caption").exit_code == 0
    return root


@pytest.fixture(scope="module")
def small(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A copy of it and the address of its page."""
    root = tmp_path_factory.mktemp("small") / "work"
    shutil.copytree(film, root)
    record_lora(root)
    with served(root, *SETTINGS, "segment.backend=sam2") as url:
        yield root, url


@pytest.fixture(scope="module")
def large(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    root = long_film(tmp_path_factory.mktemp("large") / "work")
    with served(root) as url:
        yield root, url


def said(page: Any, words: str) -> None:
    """Waits until the page says these words."""
    page.locator("#told").get_by_text(words).wait_for(timeout=PATIENCE_MS)


def decided(root: Path, kind: str) -> list[dict[str, Any]]:
    return [dict(one.values) for one in Decisions.load(root).entries if one.kind == kind]


def take_all_back(page: Any) -> None:
    """Undoes until there is nothing left to undo."""
    while not page.locator("#undo").is_disabled():
        what = page.locator("#undo-what").inner_text()
        page.locator("#undo").click()
        said(page, f"Taken back: {what}")
        page.locator("#undo-what", has_not_text=what).wait_for(state="attached")


def test_what_a_person_decides_and_runs_is_in_the_dataset(browser: Any, film: Path, tmp_path: Path) -> None:
    root = tmp_path / "work"
    shutil.copytree(film, root)
    told = [json.loads(line) for line in (root / "datasets" / "caption.jsonl").read_text("utf-8").splitlines()]
    inside = {line["item"]: line["picture"] for line in told if line["status"] == "made"}
    dropped, reworded = inside["scene-00"], inside["scene-01"]
    with served(root, *SETTINGS) as url, tab(browser, url) as page:
        page.get_by_label(f"Drop {dropped}").click()
        said(page, f"Drop {dropped}")
        page.locator("#stale", has_text="cluster").wait_for()
        page.get_by_role("link", name="Scenes").click()
        page.locator("[data-scene=scene-02].scene-card").drag_to(page.locator("[data-scene=scene-01].scene-card"))
        said(page, "Merge scene-02 into scene-01")
        page.get_by_role("button", name="Captions: film 2").click()
        caption = page.locator(f"[data-id='{reworded}'] textarea")
        caption.fill("background, a quay in the morning")
        caption.press("Enter")
        said(page, f"Caption of {reworded}")
        page.get_by_role("button", name="Run").click()
        page.get_by_role("progressbar").wait_for()
        said(page, "The run is done")
        page.get_by_role("link", name="Scenes").click()
        page.locator("[data-scene=scene-02].scene-card").wait_for(state="detached")
    texts = {path.stem.replace("_", "/"): path.read_text("utf-8") for path in (root / "datasets").rglob("*.txt")}
    assert dropped not in texts
    assert "a quay in the morning" in texts[reworded]
    scenes = json.loads((root / "scenes" / "scenes.json").read_text("utf-8"))["scenes"]
    assert [len(scene["plates"]) for scene in scenes] == [9, 20]


def test_two_tabs_see_each_other_and_do_not_overwrite_each_other(browser: Any, small: tuple[Path, str]) -> None:
    root, url = small
    first, second, third = "film-s000/000001", "film-s000/000002", "film-s000/000003"
    with tab(browser, url) as one, tab(browser, url) as deaf:
        deaf.add_init_script("window.EventSource = EventTarget")
        deaf.reload()
        deaf.wait_for_selector("body.ready")
        with tab(browser, url) as other:
            one.get_by_label(f"Drop {first}").click()
            other.locator(f".cell[data-id='{first}'][data-standing=dropped]").wait_for()
        deaf.get_by_label(f"Drop {second}").click()
        deaf.locator("#warned").get_by_text("changed meanwhile").wait_for()
        deaf.locator(f".cell[data-id='{first}'][data-standing=dropped]").wait_for()
        deaf.locator(f".cell[data-id='{second}'][data-standing=made]").wait_for()
        assert [one["drop"] for one in decided(root, "drop")] == [first], "the outdated tab's drop was not done"
        deaf.get_by_label(f"Drop {third}").click()
        said(deaf, f"Drop {third}")
        deaf.complaints.clear()  # the browser's own note of the refusal
        take_all_back(deaf)
    assert decided(root, "drop") == []


def test_what_another_tab_painted_or_wrote_meanwhile_is_not_replaced_unseen(
    browser: Any, small: tuple[Path, str]
) -> None:
    root, url = small
    frame, path = "film-s001/000011", root / "segmented" / "masks" / "film-s001" / "000011.png"

    def paint(page: Any, y: float) -> None:
        page.locator(f".cell[data-id='{frame}'] .thumb").click()
        page.keyboard.press("p")
        page.locator(".stack").click(position={"x": 60, "y": y})

    with tab(browser, url) as one, tab(browser, url) as other:
        paint(one, 60)
        paint(other, 160)
        other.keyboard.press("s")
        said(other, f"Mask of {frame}")
        theirs = read_picture(path)
        one.locator(".viewer-words", has_text="edited by hand: mask").wait_for(state="attached")
        one.keyboard.press("s")
        one.locator("#warned").get_by_text("since you began").wait_for()
        assert (read_picture(path) == theirs).all()
        one.keyboard.press("s")
        said(one, f"Mask of {frame}")
        assert not (read_picture(path) == theirs).all(), "whoever saves again has been told"
        for page in (one, other):
            page.keyboard.press("Escape")
        one.keyboard.press("u")
        said(one, f"Taken back: mask of {frame}")
        for page in (one, other):
            page.evaluate("location.hash = 'captions/scene-00'")
        first, mine = (page.locator(".caption-row textarea").first for page in (one, other))
        mine.press_sequentially("x")
        first.fill("background, theirs")
        first.press("Enter")
        said(one, "Caption of")
        other.locator("#undo-what", has_text="caption of").wait_for(state="attached")
        mine.press("Enter")
        other.locator("#warned").get_by_text("Yours is not saved").wait_for()
        assert "theirs" in decided(root, "caption")[0]["text"] and "theirs" in mine.input_value()
        take_all_back(one)


def test_a_caption_that_is_refused_for_something_else_stays_in_its_field(browser: Any, small: tuple[Path, str]) -> None:
    root, url = small
    with tab(browser, url) as one, tab(browser, url) as deaf:
        deaf.add_init_script("window.EventSource = EventTarget")
        deaf.reload()
        deaf.wait_for_selector("body.ready")
        deaf.evaluate("location.hash = 'captions/scene-00'")
        field = deaf.locator(".caption-row textarea").first
        of = field.get_attribute("data-id")
        field.fill("background, mine")
        one.get_by_label("Drop film-s000/000001").click()
        said(one, "Drop film-s000/000001")
        field.press("Enter")
        deaf.locator("#warned").get_by_text("is not saved: background, mine").wait_for()
        deaf.locator("#undo-what", has_text="drop film-s000/000001").wait_for(state="attached")
        assert field.input_value() == "background, mine" and decided(root, "caption") == []
        field.press("Enter")
        said(deaf, f"Caption of {of}")
        deaf.wait_for_timeout(1500)  # it has looked anew by then, and the trigger stands before the words
        deaf.evaluate("location.hash = 'plates'")
        deaf.locator(f".cell[data-id='{of}'] .thumb").click()
        box = deaf.locator("#viewer textarea")
        box.fill("background, in the viewer")
        one.locator("#undo-what", has_text="caption of").wait_for(state="attached")
        one.get_by_label("Drop film-s000/000002").click()
        said(one, "Drop film-s000/000002")
        box.press("Enter")
        deaf.locator("#warned").get_by_text("is not saved: background, in the viewer").wait_for()
        deaf.wait_for_timeout(1000)  # it has looked anew by then
        assert box.input_value() == "background, in the viewer"
        deaf.complaints.clear()  # the browser's own notes of the refusals
        take_all_back(one)


def test_a_page_with_an_unsaved_painting_asks_before_it_goes(browser: Any, small: tuple[Path, str]) -> None:
    _, url = small
    asked: list[str] = []
    with tab(browser, url) as page:

        def stay(dialog: Any) -> None:
            asked.append(dialog.type)
            dialog.dismiss()

        page.on("dialog", stay)
        page.locator(".cell[data-id='film-s001/000011'] .thumb").click()
        page.keyboard.press("p")
        page.locator(".stack").click(position={"x": 60, "y": 60})
        page.close(run_before_unload=True)
        page.wait_for_timeout(500)
        assert asked == ["beforeunload"] and not page.is_closed()


def test_everything_can_be_decided_by_keyboard_alone(browser: Any, small: tuple[Path, str]) -> None:
    root, url = small
    with tab(browser, url) as page:
        keys = page.keyboard
        at = "document.activeElement.dataset.id"
        keys.press("ArrowRight")
        assert page.evaluate(at) == "film-s000/000001"
        assert page.evaluate("getComputedStyle(document.activeElement.firstChild).outlineStyle") == "solid"
        keys.press("Shift+ArrowRight")
        keys.press("Shift+ArrowRight")
        keys.press("d")
        said(page, "and 2 more")
        assert [one["drop"] for one in decided(root, "drop")] == [f"film-s000/00000{n}" for n in (1, 2, 3)]
        keys.press("Escape")
        keys.press("]")
        keys.press("Shift+D")
        said(page, "Drop film-s001/*")
        keys.press("u")
        said(page, "Taken back")
        keys.press("Enter")
        assert page.locator("#viewer").is_visible()
        keys.press("ArrowRight")
        page.locator("#viewer h2", has_text="film-s001/000011").wait_for()
        keys.press("Shift+2")
        assert page.get_by_role("img", name="Mask of film-s001/000011").is_visible()
        keys.press("[")
        assert page.locator(".slider").get_attribute("aria-valuetext") == "45 % mask"
        keys.press("Escape")
        assert page.evaluate(at) == "film-s001/000011", "the viewer leaves the cursor where it was"
        keys.press("x")
        keys.press("n")
        said(page, "Split film-s001/000011 from scene-01")
        keys.press("2")
        keys.press("ArrowDown")
        keys.press("e")
        keys.type("The old pier")
        keys.press("Enter")
        said(page, "Rename scene-00 to The old pier")
        keys.press("m")
        keys.press("ArrowDown")
        keys.press("Enter")
        said(page, "Merge scene-00 into scene-02")
        assert "becomes part of film 3" in page.locator("[data-scene=scene-00].scene-card").inner_text()
        keys.press("?")
        assert page.get_by_role("dialog", name="Keys").is_visible()
        keys.press("Escape")
        take_all_back(page)
    assert Decisions.load(root).entries == ()


def test_plates_are_dragged_into_a_new_scene_and_into_another(browser: Any, small: tuple[Path, str]) -> None:
    root, url = small
    with tab(browser, url) as page:
        page.locator(".cell[data-id='film-s000/000001'] .mark").click()
        page.locator(".cell[data-id='film-s000/000003']").click(modifiers=["Shift"], position={"x": 60, "y": 40})
        page.locator(".cell[data-id='film-s000/000002'] .thumb").drag_to(page.locator("#new-scene"))
        said(page, "Split film-s000/000001 and 2 more from scene-00")
        page.locator(".cell[data-id='film-s001/000010'] .thumb").drag_to(page.locator(".side [data-scene=scene-02]"))
        said(page, "Move film-s001/000010 into scene-02")
        assert "film 3" in page.locator(".cell[data-id='film-s001/000010'] .state").inner_text()
        take_all_back(page)


def test_tags_are_replaced_over_a_scene_as_the_preview_said(browser: Any, small: tuple[Path, str]) -> None:
    root, url = small
    with tab(browser, url, view="captions/scene-00") as page:
        total = page.locator(".caption-row").count()
        page.get_by_label("find the tag").fill("empty scene")
        page.get_by_label("put in its place").fill("nobody there, <b>calm</b>")
        page.get_by_text(f"Changes {total} of {total} caption").wait_for()
        page.get_by_role("button", name="Replace").click()
        said(page, f"in {total} caption")
        texts = [one["text"] for one in decided(root, "caption")]
        assert len(texts) == total and all(text.endswith("nobody there, <b>calm</b>") for text in texts)
        assert page.locator(".tags b, .caption-row b b").count() == 0, "a caption is text, whatever it looks like"
        take_all_back(page)


def test_a_painted_mask_is_written_and_a_stroke_can_be_undone(browser: Any, small: tuple[Path, str]) -> None:
    root, url = small
    path = root / "segmented" / "masks" / "film-s001" / "000010.png"
    before = read_picture(path)
    with tab(browser, url) as page:
        page.locator(".cell[data-id='film-s001/000010'] .thumb").click()
        page.keyboard.press("p")
        box = page.locator(".stack").bounding_box()
        scale = box["width"] / before.shape[1]

        def drag(*points: tuple[float, float]) -> None:
            for step, (x, y) in enumerate(points):
                page.mouse.move(box["x"] + x * scale, box["y"] + y * scale, steps=4)
                if not step:
                    page.mouse.down()
            page.mouse.up()

        drag((30, 40), (80, 40))
        page.keyboard.press("e")
        drag((30, 70), (80, 70))
        page.keyboard.press("b")
        drag((40, 40), (70, 40))
        page.keyboard.press("z")
        page.keyboard.press("s")
        said(page, "Mask of film-s001/000010")
        painted = read_picture(path)
        assert set(np.unique(painted)) == {0, 128, 255}
        assert (painted[40, 31:79] == 255).all(), "what was painted last was taken back"
        assert (painted[70, 31:79] == 128).all()
        assert (painted[:25] == before[:25]).all()
        page.keyboard.press("Escape")
        take_all_back(page)
    assert (read_picture(path) == before).all()


def test_a_mask_edited_in_another_program_is_seen_when_its_user_comes_back(
    browser: Any, small: tuple[Path, str]
) -> None:
    root, url = small
    path = root / "segmented" / "masks" / "film-s001" / "000011.png"
    before = path.read_bytes()
    cell = ".cell[data-id='film-s001/000011']"
    with tab(browser, url) as page:
        page.locator(cell, has_not_text="edited").wait_for()
        write_png(path, 255 - read_picture(path))
        page.evaluate("dispatchEvent(new Event('focus'))")  # headless, a window never loses the focus
        page.locator(cell, has_text="edited").wait_for()
    path.write_bytes(before)


def test_points_and_a_box_tell_who_is_meant(browser: Any, small: tuple[Path, str]) -> None:
    root, url = small
    with tab(browser, url) as page:
        page.locator(".cell[data-id='film-s000/000004'] .thumb").click()
        page.keyboard.press("o")
        stack = page.locator(".stack")
        box = stack.bounding_box()
        scale = box["width"] / 160
        stack.click(position={"x": 60 * scale, "y": 60 * scale})
        stack.click(position={"x": 100 * scale, "y": 20 * scale}, modifiers=["Shift"])
        page.mouse.move(box["x"] + 50 * scale, box["y"] + 40 * scale)
        page.mouse.down()
        page.mouse.move(box["x"] + 80 * scale, box["y"] + 90 * scale, steps=3)
        page.mouse.up()
        page.get_by_text("1 point on him, 1 point beside him, a box").wait_for()
        page.keyboard.press("s")
        said(page, "Points in film-s000/000004")
        prompt = decided(root, "prompt")[0]
        assert np.allclose(prompt["points"], [[60, 60, 1], [100, 20, 0]], atol=1)
        assert np.allclose(prompt["box"], [50, 40, 80, 90], atol=1)
        page.keyboard.press("Escape")
        take_all_back(page)


def test_every_view_fits_is_silent_and_can_be_read(browser: Any, small: tuple[Path, str]) -> None:
    with tab(browser, small[1]) as page:
        for (width, dark), view in product(VIEWS, ("plates", "scenes", "captions", "loras")):
            page.set_viewport_size({"width": width, "height": 844})
            page.emulate_media(color_scheme="dark" if dark else "light")
            page.get_by_role("link", name={"loras": "LoRAs"}.get(view, view.capitalize())).click()
            page.locator(f"#{view}").wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") == width, view
            assert page.evaluate(CONTRAST) == [], (view, dark)
            assert page.evaluate(NAMELESS) == [], view
            if width == 390:
                assert page.evaluate(SMALL) == [], view


def test_ten_thousand_plates_scroll_with_few_elements(browser: Any, large: tuple[Path, str]) -> None:
    with tab(browser, large[1]) as page:
        assert page.locator("#tally").inner_text().replace("\u202f", "") == "10000 plates"
        line = page.context.new_cdp_session(page)
        line.send("Network.enable")
        line.send("Network.setBlockedURLs", {"urls": ["*/picture/*"]})  # elements are counted, not pictures drawn
        most = page.evaluate(
            """async () => {
              let most = 0;
              const frame = () => new Promise(requestAnimationFrame);
              for (let part = 0; part <= 25; part += 1) {
                scrollTo(0, document.documentElement.scrollHeight * part / 25);
                await frame(); await frame();
                most = Math.max(most, document.querySelectorAll("*").length);
              }
              return most;
            }"""
        )
        assert most < 3000
        line.send("Network.setBlockedURLs", {"urls": []})
        page.complaints.clear()
        page.keyboard.press("End")
        last = page.locator(f".cell[data-id='{plate(9999)}']")
        assert last.evaluate(
            "(cell) => cell === document.activeElement && cell.getBoundingClientRect().bottom < innerHeight"
        )
        last.locator("img[src]").wait_for()
        assert page.locator("#plates img[src]").count() < 300, "only pictures near the window are loaded"
        page.locator(".jump select").select_option("film-s050")
        assert page.locator(f".cell[data-id='{plate(5000)}']").is_visible()
        assert page.evaluate(WITHOUT_PLATES) == "28 plates, 2 frames without a plate"


def test_scale_is_chosen_on_the_grid(browser: Any, small: tuple[Path, str]) -> None:
    root, url = small
    with tab(browser, url, view="loras/scene-00") as page:
        assert "0.7\nrecommended by the test" in page.locator("#loras .scale").inner_text()
        assert page.get_by_role("rowheader").all_inner_texts() == ["the place, at night", "the place, in snow"]
        page.get_by_role("button", name="scale 0.5", exact=True).click()
        page.get_by_text("chosen by you").wait_for()
        said(page, "Choose")
        assert [one["scale"] for one in decided(root, "choose")] == [0.5]
        take_all_back(page)
