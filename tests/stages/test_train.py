"""`train` as a stage: what its items depend on, what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from bglora.engine.stage import Stopped
from bglora.engine.tools import StageJob, Task, make_item
from bglora.errors import UserError
from bglora.stages.train import Train, works_only_on_mini
from bglora.training.lora_file import read_metadata
from tests.stages.trained_project import make, project


def test_a_scene_becomes_a_lora_with_card_log_and_record(tmp_path: Path) -> None:
    view = project(tmp_path / "film", train={"samples": 1, "sample_steps": 1})
    (item,) = Train().items(view)
    (outcome,) = make(Train(), item, view, tmp_path / "scratch")
    assert outcome.status == "made"
    assert all((tmp_path / "scratch" / path).is_file() for path in outcome.outputs)
    assert {"loras/scene-00.safetensors", "loras/scene-00.json", "loras/scene-00/log.jsonl"} <= set(outcome.outputs)
    metadata = read_metadata(tmp_path / "scratch/loras/scene-00.safetensors")
    assert metadata["modelspec.title"] == "Old town"
    card = json.loads((tmp_path / "scratch/loras/scene-00.json").read_text("utf-8"))
    assert card["trigger"] == "filmtown"
    assert card["trained_on"] == {"pictures": 6, "held_out": 1, "repeats": 2}
    assert outcome.record["steps"] == 6  # six pictures twice, two at a time
    everything = b"".join((tmp_path / "scratch" / path).read_bytes() for path in outcome.outputs)
    assert str(tmp_path).encode() not in everything
    assert str(tmp_path) not in json.dumps(outcome.record)


def test_stopped_it_goes_on_from_its_scratch_folder(tmp_path: Path) -> None:
    view = project(tmp_path / "film")
    (item,) = Train().items(view)
    (whole,) = make(Train(), item, view, tmp_path / "whole")
    with pytest.raises(Stopped):
        make(Train(), item, view, tmp_path / "cut", stop=lambda: True)
    (resumed,) = make(Train(), item, view, tmp_path / "cut")
    assert resumed == whole
    for path in whole.outputs:
        assert (tmp_path / "cut" / path).read_bytes() == (tmp_path / "whole" / path).read_bytes()


def test_a_training_that_ends_early_says_so_and_its_checkpoints_lie_beside_it(tmp_path: Path) -> None:
    still = {"learning_rate": 1e-30, "weight_decay": 0.0, "validate_every": 1, "early_stop": 1, "keep_checkpoints": 5}
    view = project(tmp_path / "film", train=still)
    (item,) = Train().items(view)
    (outcome,) = make(Train(), item, view, tmp_path / "scratch")
    assert outcome.reason == "stopped at step 2 of 6: validation has not improved for 1 look"
    loras = [path for path in outcome.outputs if path.endswith(".safetensors")]
    along = [f"loras/scene-00/checkpoints/step-{step:06d}.safetensors" for step in (1, 2)]
    assert loras == ["loras/scene-00.safetensors", *along]  # the first is the LoRA, for `test` and `compose`
    assert read_metadata(tmp_path / "scratch" / along[1])["ss_steps"] == "2"


def test_a_training_that_ends_in_nonsense_fails_with_its_last_good_weights(tmp_path: Path) -> None:
    wild = {"optimizer_args": ["weight_decay=1e4"], "checkpoint_every": 1, "validate_every": 1}
    view = project(tmp_path / "film", train=wild)
    (item,) = Train().items(view)
    (outcome,) = make(Train(), item, view, tmp_path / "scratch")
    assert outcome.status == "failed"
    assert "at step" in outcome.reason and outcome.outputs[0] in outcome.reason
    assert outcome.outputs[0].startswith("loras/scene-00/checkpoints/step-")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_at_a_checkpoint_is_told_in_three_lines_and_the_state_stays(tmp_path: Path) -> None:
    view = project(tmp_path / "film", train={"checkpoint_every": 2})
    (item,) = Train().items(view)
    state = tmp_path / "scratch/state/scene-00/state.safetensors"
    before: list[bytes] = []

    def fill(item: str, done: float, total: float, text: str) -> None:
        if done == 3 and not before:
            before.append(state.read_bytes())
            state.with_name(state.name + ".part").symlink_to("/dev/full")

    job = StageJob(Train(), view.root, view.settings, "film")
    result = make_item(job, Task(item, tmp_path / "scratch"), fill, lambda: False, {})
    assert result.fatal is not None and result.fatal.what == "The disk is full."
    assert result.fatal.cure.startswith("Free some room")
    assert state.read_bytes() == before[0]
    assert [path.name for path in state.parent.iterdir() if path.name.endswith(".part")] == []


def test_items_name_the_settings_they_read_and_no_others(tmp_path: Path) -> None:
    view = project(tmp_path)
    (item,) = Train().items(view)
    for ignored in ("force", "checkpoint_every", "tensorboard", "epochs_small"):
        assert f"train.{ignored}" not in item.settings
    assert item.settings["train.epochs"] == 1
    view.settings = view.settings.model_copy(
        update={"train": view.settings.train.model_copy(update={"epochs": 99, "force": True, "checkpoint_every": 1})}
    )
    assert next(iter(Train().items(view))) == item


def test_captions_provenance_and_held_out_plates_are_inputs(tmp_path: Path) -> None:
    (item,) = Train().items(project(tmp_path))
    assert "datasets/scene-00/2_filmtown/film-s000_000000.txt" in item.files
    assert "provenance/film-s000/000000.png" in item.files
    assert "plates/film-s000/000006.png" in item.files
    assert "plates/film-s000/000000.png" not in item.files


def test_an_empty_caption_and_a_damaged_picture_are_told_in_three_lines(tmp_path: Path) -> None:
    view = project(tmp_path / "film")
    (item,) = Train().items(view)
    folder = tmp_path / "film/datasets/scene-00/2_filmtown"
    (folder / "film-s000_000001.txt").write_text("\n")
    with pytest.raises(UserError, match="caption is empty"):
        make(Train(), item, view, tmp_path / "scratch")
    (folder / "film-s000_000001.txt").unlink()
    with pytest.raises(UserError, match="has no caption"):
        make(Train(), item, view, tmp_path / "scratch")
    (folder / "film-s000_000001.txt").write_text("filmtown")
    (folder / "film-s000_000002.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read"):
        make(Train(), item, view, tmp_path / "scratch")


def test_a_base_that_is_not_sdxl_is_told_in_three_lines(tmp_path: Path) -> None:
    other = tmp_path / "film" / "models" / "sd15"
    other.mkdir(parents=True)
    (other / "unet").mkdir()
    (other / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (other / "unet" / "config.json").write_text('{"cross_attention_dim": 768}')
    view = project(tmp_path / "film", train={"base": "models/sd15"})
    (item,) = Train().items(view)
    with pytest.raises(UserError, match="not SDXL's kind"):
        make(Train(), item, view, tmp_path / "scratch")


def test_a_scene_whose_plates_are_all_held_out_is_dropped_with_the_reason(tmp_path: Path) -> None:
    view = project(tmp_path / "film", plates=2, held_out=2)
    (item,) = Train().items(view)
    (outcome,) = make(Train(), item, view, tmp_path / "scratch")
    assert (outcome.status, outcome.reason[:15]) == ("dropped", "not enough data")


def test_a_retouched_picture_of_another_size_is_trained_on(tmp_path: Path) -> None:
    view = project(tmp_path / "film", plates=2)
    (item,) = Train().items(view)
    path = tmp_path / "film/datasets/scene-00/2_filmtown/film-s000_000000.png"
    Image.open(path).resize((150, 200)).convert("RGBA").save(path)
    (outcome,) = make(Train(), item, view, tmp_path / "scratch")
    assert outcome.status == "made"


def test_without_datasets_the_command_that_makes_them_is_named(tmp_path: Path) -> None:
    view = project(tmp_path)
    view.stages["caption"] = []
    with pytest.raises(UserError) as caught:
        list(Train().items(view))
    assert caught.value.cure == "bglora caption"


def test_only_loras_of_mini_carry_the_warning() -> None:
    assert "mini only" in works_only_on_mini("mini")
    assert works_only_on_mini("stabilityai/stable-diffusion-xl-base-1.0") == ""
