"""What the page is told, and the pictures that it gets."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bglora.film.png import read_grey
from bglora.review import routes
from bglora.review.routes import Page
from bglora.review.thumbnails import Shown, shown
from tests.review.conftest import Asked, three_lines


def test_the_state_tells_of_stages_scenes_shots_and_every_plate(looking: Asked) -> None:
    state = looking.state
    assert state["title"] == "Two places" and state["running"] is None and state["undo"] is None
    stages = {one["name"]: one for one in state["stages"]}
    assert stages["ingest"]["made"] == len(state["plates"]) == 12
    assert stages["inpaint"]["fresh"] and not stages["train"]["fresh"]
    assert {shot["name"] for shot in state["shots"]} == {"walk-s000", "walk-s001"}
    assert sum(len(shot["frames"]) for shot in state["shots"]) == 12
    in_scenes = {plate for scene in state["scenes"] for plate in scene["plates"]}
    made = {name for name, one in state["plates"].items() if one["status"] == "made"}
    assert in_scenes | set(state["noise"]) == made and in_scenes
    plate = state["plates"][sorted(in_scenes)[0]]
    assert (plate["width"], plate["height"]) == (160, 96)
    assert plate["kinds"] == ["frame", "mask", "plate", "provenance"] and plate["v"]
    assert abs(plate["original"] + plate["recovered"] + plate["guessed"] + plate["untrusted"] - 1) < 1e-4
    captions = [one["caption"] for one in state["plates"].values() if one["caption"]]
    assert captions and all(text.startswith(state["scenes"][0]["trigger"][:3]) for text in captions)


def test_a_trained_scene_shows_its_files_and_grid(looking: Asked) -> None:
    lora = next(scene["lora"] for scene in looking.state["scenes"] if scene["id"] == "scene-00")
    assert lora["checkpoints"] == ["loras/scene-00.safetensors", "loras/scene-00/checkpoints/step-000010.safetensors"]
    assert lora["recommended"] == {"checkpoint": "loras/scene-00.safetensors", "scale": 0.7}
    assert lora["chosen"] is None and lora["verdict"] == [{"word": "good", "cure": "Use it."}]
    cells = {one["file"]: one for one in lora["grid"]}
    file = "checkpoints/000010/prompt0-scale100-seed1.webp"
    assert cells[file] == {"file": file, "prompt": 0, "scale": 1.0, "seed": 1, "step": "000010"}
    for file in cells:
        assert looking.client.get(f"/grid/scene-00/{file}?w=160").headers["content-type"] == "image/webp"


def test_pictures_come_small_or_as_they_are(looking: Asked) -> None:
    name = looking.plates()[0]
    for kind in ("frame", "mask", "plate", "provenance"):
        for width, wide in ((0, 160), (80, 160), (5000, 160)):
            answer = looking.client.get(f"/picture/{kind}/{name}?w={width}")
            picture = Image.open(io.BytesIO(answer.content))
            assert picture.width == wide, "never larger than the picture, never smaller than asked for"
            assert picture.mode == {"mask": "L", "provenance": "RGBA"}.get(kind, "RGB")
    mask = Image.open(io.BytesIO(looking.client.get(f"/picture/mask/{name}?w=160").content))
    assert np.array_equal(np.asarray(mask), read_grey(looking.root / f"segmented/masks/{name}.png"))


def test_a_thumbnail_is_made_once_and_anew_when_its_picture_changes(tab: Asked) -> None:
    name = tab.plates()[0]
    version = tab.state["plates"][name]["v"]
    first = tab.client.get(f"/picture/plate/{name}?w=160&v={version}")
    assert "immutable" in first.headers["cache-control"]
    kept = list((tab.root / ".bglora/thumbnails").rglob("*.webp"))
    assert len(kept) == 1
    stamp = kept[0].stat().st_mtime_ns
    again = tab.client.get(f"/picture/plate/{name}?w=160")
    assert again.content == first.content and "immutable" not in again.headers["cache-control"]
    assert list((tab.root / ".bglora/thumbnails").rglob("*.webp")) == kept and kept[0].stat().st_mtime_ns == stamp
    same = tab.client.get(f"/picture/plate/{name}?w=160", headers={"If-None-Match": first.headers["etag"]})
    assert same.status_code == 304 and not same.content
    Image.new("RGB", (160, 96), (250, 0, 0)).save(tab.root / f"plates/{name}.png")
    other = tab.client.get(f"/picture/plate/{name}?w=160", headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200 and other.content != first.content
    assert len(list((tab.root / ".bglora/thumbnails").rglob("*.webp"))) == 1, "the old one is gone"
    assert tab.state["plates"][name]["v"] != version


@pytest.mark.parametrize("width", [0, 160])
def test_a_picture_that_was_replaced_since_the_look_is_not_kept_under_the_old_ones_name(tab: Asked, width: int) -> None:
    name = tab.plates()[0]
    plate = tab.root / f"plates/{name}.png"

    def keeps(version: str) -> bool:
        answer = tab.client.get(f"/picture/plate/{name}?w={width}&v={version}")
        return "immutable" in answer.headers["cache-control"]

    version = tab.state["plates"][name]["v"]
    assert keeps(version)
    Image.new("RGB", (160, 96), (250, 0, 0)).save(plate)
    assert not keeps(version), "a run made it anew, and nobody has looked at the project since"
    edited = tab.state["plates"][name]["v"]
    assert keeps(edited) and not keeps(version)
    Image.new("RGB", (160, 96), (0, 250, 0)).save(plate)
    os.utime(plate, ns=(1, 1))
    assert not keeps(edited), "nor where it was edited by hand twice"


def test_the_page_goes_on_telling_when_a_file_vanishes_under_its_eyes(
    tab: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "EVERY", 0.01)
    page = Page(tab.project)
    told = iter(["before", FileNotFoundError("gone"), "after"])

    def stamps() -> str:
        one = next(told, "after")
        if isinstance(one, Exception):
            raise one
        return one

    monkeypatch.setattr(page.acts, "stamps", stamps)

    async def watched() -> dict[str, Any]:
        queue = page.listeners.join()
        watching = asyncio.create_task(page._watch())
        try:
            return await asyncio.wait_for(queue.get(), 10)
        finally:
            watching.cancel()

    assert asyncio.run(watched())["event"] == "changed"


def test_tabs_that_ask_for_the_same_thumbnail_at_once_all_get_it(tab: Asked) -> None:
    together = Barrier(8)

    def ask(path: str) -> Shown:
        together.wait()
        return shown(tab.root, path, "plate", 160)

    with ThreadPoolExecutor(8) as tabs:
        for name in tab.plates()[:5]:
            found = list(tabs.map(ask, [f"plates/{name}.png"] * 8))
            kept = next(one.path for one in found if one.path).read_bytes()
            assert {one.content or kept for one in found} == {kept}


def test_a_damaged_or_missing_picture_is_told_in_three_lines(tab: Asked) -> None:
    first, second, *_ = tab.plates()
    (tab.root / f"plates/{first}.png").write_bytes(b"no picture")
    (tab.root / f"plates/{second}.png").unlink()
    assert "can't be read" in three_lines(tab.client.get(f"/picture/plate/{first}?w=160"))[0]
    assert "not there" in three_lines(tab.client.get(f"/picture/plate/{second}?w=160"))[0]
    assert tab.client.get("/picture/plate/nobody/000000").status_code == 404
    assert tab.client.get(f"/picture/portrait/{first}").status_code == 404
    assert tab.client.get(f"/picture/plate/{first}?w=-1").status_code == 404


def test_a_project_without_anything_yet_has_a_page(tab: Asked) -> None:
    for folder in ("frames", "segmented", "plates", "provenance", "scenes", "datasets", "loras", "grids", ".bglora"):
        shutil.rmtree(tab.root / folder, ignore_errors=True)
    state = tab.state
    assert state["plates"] == {} and state["scenes"] == []
    assert json.dumps(state["stages"])
