"""Character LoRAs: which cut-outs they learn from, what stands around them, and that they resume as the rest does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from bglora.engine.stage import Row, Stopped
from bglora.errors import UserError
from bglora.stages.characters import prepared
from bglora.stages.train import Train
from bglora.training.lora_file import read_metadata
from bglora.vision import cast
from tests.stages.trained_project import ProjectView, make, project

RED, BLUE = (200, 60, 50), (50, 80, 190)


def cutout(color: tuple[int, int, int], height: int = 60, light: float = 1.0, seed: int = 0) -> np.ndarray:
    """An upright oval with stripes in one color, lit more or less."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, : height // 2]
    inside = ((rows - height / 2) / (height / 2)) ** 2 + ((columns - height / 4) / (height / 4)) ** 2 <= 1
    shade = light * (0.7 + 0.3 * (rows // 6 % 2))[..., None]
    colors = np.array(color) * shade + rng.normal(0, 12, (*inside.shape, 3))
    return np.dstack([np.clip(colors, 0, 255), inside * 255]).astype(np.uint8)


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> ProjectView:
    """Two red tracks, one blue one, and a piece of the red one."""
    root = tmp_path_factory.mktemp("film")
    made = project(root, plates=4, train={"characters": {"fox": [], "bear": []}})
    rows = []
    tracks = {("film-s000", 1): (RED, 1.0, 6), ("film-s001", 1): (RED, 0.92, 6), ("film-s001", 2): (BLUE, 1.0, 5)}
    for (shot, track), (color, light, count) in tracks.items():
        for frame in range(count):
            path = f"segmented/character/{shot}/{frame:06d}_{track}.png"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            small = color is RED and frame == 0
            Image.fromarray(cutout(color, 24 if small else 60, light, frame)).save(root / path)
            rows.append(Row(shot, f"{shot}/{frame:06d}-{track}", "made", "", (path,), {}))
    made.stages["segment"] = rows
    return made


def items(view: ProjectView) -> dict[str, Any]:
    return {item.name: item for item in Train().items(view)}


def with_characters(view: ProjectView, **characters: Any) -> ProjectView:
    train = view.settings.train.model_copy(update={"characters": characters})
    return ProjectView(view.root, view.settings.model_copy(update={"train": train}), view.stages, view.remarks)


class Scratch:
    def __init__(self, view: ProjectView, folder: Path) -> None:
        self.root, self.scratch, self.seed = view.root, folder, 5


def test_tracks_are_told_apart_by_color_whatever_their_light() -> None:
    tracks = {f"s{i}_1": [cutout(RED, light=light, seed=i)] * 3 for i, light in enumerate((1.0, 0.95, 0.9))}
    groups = cast.groups({**tracks, "s9_2": [cutout(BLUE)] * 2, "s9_3": [np.zeros((9, 9, 4), np.uint8)]})
    assert groups == [["s0_1", "s1_1", "s2_1"], ["s9_2"]]


def test_a_cutout_is_put_on_a_picture_without_the_color_of_its_transparent_pixels() -> None:
    one = cutout(RED, 40)
    one[..., :3] = np.where(one[..., 3:] > 0, (200, 200, 200), (255, 0, 0))
    picture, alpha = cast.placed(one, np.zeros((100, 100, 3), np.uint8), 0.8, 0.5, 1.0)
    assert picture[..., 0].astype(int).max() > 150
    assert (picture[..., 0].astype(int) - picture[..., 1] <= 2).all()
    rows = np.flatnonzero(alpha.any(axis=1))
    assert rows[-1] == 99 and abs(len(rows) - 80) <= 2
    wide, alpha = cast.placed(cv2.resize(one, (200, 20)), np.zeros((100, 100, 3), np.uint8), 0.8, 0.5, 1.0)
    assert np.flatnonzero(alpha.any(axis=0)).size <= 96


def test_each_character_is_an_item_that_learns_from_its_own_cutouts(view: ProjectView, tmp_path: Path) -> None:
    found = items(view)
    assert list(found) == ["scene-00", "character-fox", "character-bear"]
    for name, color, strength in (("fox", RED, 0), ("bear", BLUE, 2)):
        item, files = prepared(found[f"character-{name}"], Scratch(view, tmp_path / name))
        pictures = [*item.payload["pictures"], *item.payload["held_out"]]
        assert len(pictures) == 2 * (10 if color is RED else 5)  # pieces are left out
        for entry in pictures:
            weights = np.asarray(Image.open(entry["provenance"]))
            inside = np.asarray(Image.open(entry["image"]))[weights == 0].mean(axis=0)
            assert inside.argmax() == strength and 0.05 < (weights == 0).mean() < 0.6
        assert len(files) == 2 * len(item.payload["pictures"])
        held = {entry["name"].rpartition("-")[0] for entry in item.payload["held_out"]}
        assert not held & {entry["name"].rpartition("-")[0] for entry in item.payload["pictures"]}


def test_captions_name_the_character_first_and_the_place_without_its_trigger(view: ProjectView, tmp_path: Path) -> None:
    item, _ = prepared(items(view)["character-fox"], Scratch(view, tmp_path))
    captions = [entry["caption"] for entry in item.payload["pictures"]]
    assert captions[0].startswith("flm_fox, a character, plain ") and item.payload["about"]["keep_tokens"] == 2
    assert "flm_fox, a character, a town, wooden houses, warm light, calm" in captions
    assert not any("filmtown" in caption or "empty" in caption for caption in captions)


def test_the_same_seed_makes_the_same_pictures(view: ProjectView, tmp_path: Path) -> None:
    for name in "ab":
        prepared(items(view)["character-bear"], Scratch(view, tmp_path / name))
    files = [path for path in (tmp_path / "a").rglob("*.*")]
    assert files and all(
        path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes() for path in files
    )


def test_patterns_choose_tracks_and_wrong_ones_are_told(view: ProjectView, tmp_path: Path) -> None:
    item = items(with_characters(view, blue=("film-s001_2",)))["character-blue"]
    assert list(item.payload["tracks"]) == ["film-s001_2"] and len(item.files) == 5 + 2 * 3
    with pytest.raises(UserError, match="No cut-outs fit") as caught:
        items(with_characters(view, blue=("film-s009*",)))
    assert "film-s000_1" in caught.value.cure
    third = items(with_characters(view, a=(), b=(), c=()))["character-c"]
    with pytest.raises(UserError, match="Only 2 characters can be told apart"):
        prepared(third, Scratch(view, tmp_path))
    nobody = ProjectView(view.root, view.settings, {**view.stages, "segment": []}, view.remarks)
    with pytest.raises(UserError, match="no cut-outs") as caught:
        items(nobody)
    assert "segment.cutouts" in caught.value.cure


def test_characters_do_not_touch_what_the_scenes_are_made_from(view: ProjectView) -> None:
    assert items(with_characters(view))["scene-00"] == items(view)["scene-00"]


def test_a_stopped_training_goes_on_to_the_same_file_with_card_trigger_and_dataset(
    view: ProjectView, tmp_path: Path
) -> None:
    item = items(with_characters(view, bear=("film-s001_2",)))["character-bear"]
    (whole,) = make(Train(), item, view, tmp_path / "whole")
    asked = []

    def after_three() -> bool:
        asked.append(1)
        return len(asked) == 3

    with pytest.raises(Stopped):
        make(Train(), item, view, tmp_path / "stopped", after_three)
    (resumed,) = make(Train(), item, view, tmp_path / "stopped")
    assert whole.outputs == resumed.outputs and whole.record == resumed.record
    path = "loras/character-bear.safetensors"
    assert (tmp_path / "whole" / path).read_bytes() == (tmp_path / "stopped" / path).read_bytes()
    assert read_metadata(tmp_path / "whole" / path)["modelspec.trigger_phrase"] == "flm_bear"
    card = json.loads((tmp_path / "whole/loras/character-bear.json").read_text("utf-8"))
    assert (card["kind"], card["trigger"], card["recommended_scale"]) == ("character", "flm_bear", 1.0)
    assert "Character LoRA" in (tmp_path / "whole/loras/character-bear.md").read_text("utf-8")
    assert "datasets/character-bear/1_flm_bear/000-plain.txt" in whole.outputs
