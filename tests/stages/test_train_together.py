"""Several scenes in one command: a LoRA each, one for all with their triggers, or both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bglora.engine.stage import Row
from bglora.errors import UserError
from bglora.stages.compose import Compose
from bglora.stages.grids import FINAL
from bglora.stages.test import Test
from bglora.stages.train import Train
from bglora.training.base import load_base
from bglora.training.lora_file import read_metadata
from bglora.training.plan import Plan
from tests.stages.trained_project import CAPTION, ProjectView, make, project, take_in
from tests.training.tiny_job import RECIPE


def two_scenes(root: Path, **train: Any) -> ProjectView:
    """The old town with six pictures, and a wood with two, which must not be mirrored and are shown three times."""
    view = project(root, train=train)
    for number in range(2):
        name, stem = f"film-s001/{number:06d}", f"datasets/scene-01/3_filmwood/film-s001_{number:06d}"
        plate = f"plates/{name}.png"
        for path in (plate, f"{stem}.png"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (96, 54), (20, 90 + number, 30)).save(root / path)
        (root / f"{stem}.txt").write_text(CAPTION.replace("filmtown", "filmwood") + "\n", "utf-8")
        view.stages["inpaint"].append(Row("film-s001", name, "made", "", (plate,), {}))
        view.stages["caption"].append(Row("scene-01", name, "made", "", (f"{stem}.png", f"{stem}.txt"), {}))
    view.remarks[("caption", "scene-01")] = {"trigger": "filmwood", "repeats": 3, "flip": False, "keep_tokens": 2}
    view.remarks[("cluster", "all")]["scenes"].append({"id": "scene-01", "title": "Wood"})
    return view


def test_scenes_are_trained_each_together_or_both(tmp_path: Path) -> None:
    names = {
        chosen: [item.name for item in Train().items(two_scenes(tmp_path / chosen, scenes=chosen))]
        for chosen in ("each", "all", "both")
    }
    assert names == {
        "each": ["scene-00", "scene-01"],
        "all": ["all-scenes"],
        "both": ["scene-00", "scene-01", "all-scenes"],
    }
    with pytest.raises(UserError, match="kohya trains a LoRA for each scene"):
        list(Train().items(two_scenes(tmp_path / "kohya", scenes="all", backend="kohya")))


def test_all_scenes_share_a_lora_with_a_trigger_for_each(tmp_path: Path) -> None:
    view = two_scenes(tmp_path / "film", scenes="all")
    (item,) = Train().items(view)
    (outcome,) = outcomes = make(Train(), item, view, tmp_path / "scratch")
    assert outcome.record["steps"] == 9  # six pictures twice and two three times; 18 showings in batches of two
    assert outcome.record["pictures_seen"] == 18
    metadata = read_metadata(tmp_path / "scratch/loras/all-scenes.safetensors")
    assert json.loads(metadata["ss_dataset_dirs"]) == {
        "2_filmtown": {"n_repeats": 2, "img_count": 6},
        "3_filmwood": {"n_repeats": 3, "img_count": 2},
    }
    assert json.loads(metadata["ss_tag_frequency"])["3_filmwood"]["filmwood"] == 2
    assert metadata["modelspec.trigger_phrase"] == "filmtown, filmwood"
    card = json.loads((tmp_path / "scratch/loras/all-scenes.json").read_text("utf-8"))
    assert card["triggers"] == {"Old town": "filmtown", "Wood": "filmwood"}
    assert "- Wood: `filmwood`" in (tmp_path / "scratch/loras/all-scenes.md").read_text("utf-8")
    take_in(view, "train", outcomes, tmp_path / "scratch", item.name)
    for stage in (Test(), Compose()):
        items = list(stage.items(view))
        assert [one.name for one in items] == ["scene-00", "scene-01"]
        assert all("loras/all-scenes.safetensors" in one.files for one in items)


def test_test_and_compose_tell_a_scenes_own_lora_from_the_one_for_all(tmp_path: Path) -> None:
    view = two_scenes(tmp_path)
    for name in ("scene-00", "all-scenes"):
        view.stages.setdefault("train", []).append(Row(name, name, "made", "", (f"loras/{name}.safetensors",), {}))
    items = {item.name: item for item in Test().items(view)}
    assert {name: dict(item.payload["loras"])[FINAL] for name, item in items.items()} == {
        "scene-00": "loras/scene-00.safetensors",
        "scene-00-all": "loras/all-scenes.safetensors",
        "scene-01": "loras/all-scenes.safetensors",
    }
    assert items["scene-01"].payload["trigger"] == "filmwood"
    assert [item.name for item in Compose().items(view)] == list(items)


def test_pictures_of_a_scene_that_must_not_be_mirrored_never_are() -> None:
    plan = Plan([(64, 64)] * 6, (1, 1, 1, 1, 4, 4), (True, True, True, True, False, False), RECIPE)
    draws = [draw for step in range(plan.steps) for batch in plan.batches(step) for draw in batch]
    assert {draw.picture for draw in draws if draw.flipped} <= {0, 1, 2, 3}
    assert any(draw.flipped for draw in draws) and plan.flips
    same = Plan([(64, 64)] * 6, 2, True, RECIPE)
    each = Plan([(64, 64)] * 6, (2,) * 6, (True,) * 6, RECIPE)
    assert [same.batches(step) for step in range(same.steps)] == [each.batches(step) for step in range(each.steps)]


def test_one_command_loads_the_base_once_and_encodes_a_picture_once(tmp_path: Path) -> None:
    view = two_scenes(tmp_path / "film", scenes="both")
    cache = tmp_path / "film/.bglora/cache"
    base, kept = None, 0
    for item in Train().items(view):
        (outcome,) = make(Train(), item, view, tmp_path / item.name)
        assert outcome.status == "made"
        assert base in (None, load_base(str(view.settings.train.base)))
        base = load_base(str(view.settings.train.base))
        kept, before = len(list(cache.rglob("*.safetensors"))), kept
        assert (kept > before) == (item.name != "all-scenes")  # its pictures and captions were those of the scenes
