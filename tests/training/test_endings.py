"""How a training ends: early, with checkpoints along the way, in nonsense, on a full disk, or on other data."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from bglora.errors import UserError
from bglora.training.averaging import Average
from bglora.training.base import load_base
from bglora.training.job import Diverged, Paused, TrainJob
from bglora.training.loop import Training, Watch
from tests.training.tiny_job import Watcher, tiny_job, train

LORA = "loras/scene-00.safetensors"
STATE = "state/scene-00/state.safetensors"
UNMOVED = {"learning_rate": 1e-30, "weight_decay": 0.0, "validate_every": 1, "samples": 0}
"""The weights stay where they are, so that no validation is better than the first."""
WILD = {
    "optimizer_args": ("weight_decay=1e4",),
    "samples": 0,
    "validate_every": 1,
    "checkpoint_every": 1,
    "save_precision": "fp32",
}
"""Every step multiplies the weights by a hundred: soon they are no numbers."""


Whole = tuple[TrainJob, dict[str, bytes]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A job, and the files of its training when nothing happened to it."""
    home = tmp_path_factory.mktemp("whole")
    job = tiny_job(home / "pictures", samples=0)
    return job, contents(home, train(job, Watcher(home)).outputs)


def contents(folder: Path, outputs: tuple[str, ...]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in outputs}


def stopped(job: TrainJob, scratch: Path, step: int) -> None:
    with pytest.raises(Paused):
        train(job, Watcher(scratch, step))


class Heard(Watcher):
    """A watcher that keeps what it is told, and acts once at a step without stopping."""

    def __init__(self, scratch: Path, at: int = -1, act: Callable[[], Any] = lambda: None) -> None:
        super().__init__(scratch, at, lambda: bool(act()))
        self.texts: list[str] = []

    def progress(self, done: float, total: float, text: str = "") -> None:
        super().progress(done, total, text)
        self.texts.append(text)


def test_the_average_follows_the_weights_and_forgets_the_first_ones_soon() -> None:
    weights, average = [torch.tensor([0.0, 8.0])], None
    average = Average(weights, 0.5)
    expected = weights[0].double()
    for step in range(1, 20):
        weights[0].add_(1.0)
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights[0].double()
    assert torch.allclose(average.values[0].double(), expected)
    average.put()
    assert torch.equal(weights[0], average.values[0])


def test_everything_along_the_way_survives_a_stop_bit_by_bit(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "pictures", ema=0.9, keep_checkpoints=2, early_stop=5, validate_every=2, samples=0)
    whole = train(job, Watcher(tmp_path / "whole"))
    stopped(job, tmp_path / "cut", 1)
    stopped(job, tmp_path / "cut", 3)
    resumed = train(job, Watcher(tmp_path / "cut"))
    assert contents(tmp_path / "cut", resumed.outputs) == contents(tmp_path / "whole", whole.outputs)
    assert resumed.record == whole.record
    along = [name for name in whole.outputs if "/checkpoints/" in name]
    assert along == [f"loras/scene-00/checkpoints/step-{step:06d}.safetensors" for step in (2, 4)]
    lora, first, second = (load_file(tmp_path / "whole" / name) for name in (LORA, *along))
    assert lora.keys() == first.keys() == second.keys()
    assert any(not torch.equal(first[name], second[name]) for name in first)
    plain = train(replace(job, recipe=replace(job.recipe, ema=0.0, keep="last")), Watcher(tmp_path / "plain"))
    newest = load_file(tmp_path / "plain" / plain.outputs[0])
    assert any(not torch.equal(lora[name], newest[name]) for name in lora)


def test_an_average_of_an_optimizer_that_averages_is_refused(tmp_path: Path) -> None:
    from bglora.training.averaging import average_of

    with pytest.raises(UserError) as caught:
        average_of([], replace(tiny_job(tmp_path).recipe, ema=0.9, optimizer="schedule_free"))
    assert "train.ema" in caught.value.cure


@pytest.mark.parametrize(("keep", "kept_step"), [("best", 1), ("last", 3)])
def test_it_ends_early_once_validation_no_longer_improves(tmp_path: Path, keep: str, kept_step: int) -> None:
    job = tiny_job(tmp_path / "pictures", early_stop=2, keep=keep, **UNMOVED)
    result = train(job, Watcher(tmp_path))
    assert (result.record["steps"], result.record["kept_step"]) == (3, kept_step)
    assert result.record["remarks"] == ["stopped at step 3 of 6: validation has not improved for 2 looks"]
    looks = {point[0]: point[2] for point in result.record["curve"]}
    assert result.record["validation"] == looks[kept_step]
    before = contents(tmp_path, result.outputs)
    assert len(list((tmp_path / "state/scene-00").glob("best-*"))) == (keep == "best")
    again = Watcher(tmp_path)
    assert train(job, again).record == result.record
    assert again.steps == 0  # it had ended: no step more is taken
    assert contents(tmp_path, result.outputs) == before


def test_without_held_out_plates_it_says_that_it_cannot_end_early(tmp_path: Path) -> None:
    job = replace(tiny_job(tmp_path / "pictures", early_stop=1, keep="last", **UNMOVED), held_out=())
    record = train(job, Watcher(tmp_path)).record
    assert record["steps"] == 6
    assert "no plate is held out" in record["remarks"][0]


def test_the_best_weights_stay_right_when_it_dies_between_them_and_the_state(whole: Whole, tmp_path: Path) -> None:
    job, expected = whole

    class Dead(Exception):
        pass

    def die() -> bool:
        raise Dead

    with pytest.raises(Dead):
        train(job, Watcher(tmp_path, 3, die))  # step 3 is validated, the state is step 2's
    assert (tmp_path / STATE).with_name("best-000003.safetensors").exists()
    resumed = train(job, Watcher(tmp_path))
    assert contents(tmp_path, resumed.outputs) == expected


@pytest.mark.parametrize(("keep", "kept_step"), [("best", 1), ("last", 2)])
def test_a_loss_that_becomes_nonsense_leaves_the_last_good_weights(tmp_path: Path, keep: str, kept_step: int) -> None:
    result = train(tiny_job(tmp_path / "pictures", keep=keep, **WILD), Watcher(tmp_path))
    path = f"loras/scene-00/checkpoints/step-{kept_step:06d}.safetensors"
    assert "at step" in result.undone and "train.learning_rate" in result.undone and path in result.undone
    assert result.outputs[0] == path
    assert not (tmp_path / LORA).exists()
    assert all(bool(value.isfinite().all()) for value in load_file(tmp_path / path).values())
    assert all(bool(value.isfinite().all()) for value in load_file(tmp_path / STATE).values())


def test_weights_that_a_step_spoiled_are_never_saved(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "pictures", samples=0, validate_every=6)
    found: list[Training] = []

    def spoil() -> bool:
        if found and found[0].progress.step == 4:
            found[0].learner.weights[0].data[:1] = float("nan")
        return False

    found.append(Training(job, load_base(job.base), tmp_path, tmp_path / "samples", Watch(lambda *_: None, spoil)))
    with pytest.raises(Diverged, match="weights are no finite numbers at step 4"):
        found[0].run()
    assert found[0].go_back() and found[0].kept_step == 2
    assert all(bool(value.isfinite().all()) for value in found[0].final().values())
    found[0].adapter.detach()


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("file", ["state", "best-000003"])
def test_a_full_disk_keeps_the_state_before_and_leaves_nothing_half_written(
    whole: Whole, tmp_path: Path, file: str
) -> None:
    (job, expected), place = whole, tmp_path / STATE
    before: list[bytes] = []

    def fill() -> None:
        before.append(place.read_bytes())
        place.with_name(f"{file}.safetensors.part").symlink_to(FULL)

    with pytest.raises(OSError) as caught:
        train(job, Heard(tmp_path, 2, fill))
    assert caught.value.errno == errno.ENOSPC
    assert place.read_bytes() == before[0]
    assert not list(place.parent.glob("*.part"))
    resumed = train(job, Watcher(tmp_path))
    assert contents(tmp_path, resumed.outputs) == expected


@pytest.mark.parametrize("what", ["picture", "caption"])
def test_a_state_of_other_data_is_not_gone_on_from(tmp_path: Path, what: str) -> None:
    job = tiny_job(tmp_path / "pictures", samples=0, epochs=1)
    stopped(job, tmp_path / "cut", 1)
    if what == "picture":
        with Image.open(job.pictures[0].image) as picture:
            picture.rotate(180).save(job.pictures[0].image)
        edited = job
    else:
        first = replace(job.pictures[0], caption="trig, something else")
        edited = replace(job, pictures=(first, *job.pictures[1:]))
    watcher = Heard(tmp_path / "cut")
    resumed = train(edited, watcher)
    assert any("starting anew" in text for text in watcher.texts)
    fresh = train(edited, Watcher(tmp_path / "fresh"))
    assert contents(tmp_path / "cut", resumed.outputs) == contents(tmp_path / "fresh", fresh.outputs)


def test_a_picture_that_is_edited_while_it_trains_changes_nothing_of_this_training(
    whole: Whole, tmp_path: Path
) -> None:
    job = tiny_job(tmp_path / "pictures", samples=0)
    result = train(job, Heard(tmp_path, 3, lambda: job.pictures[0].image.write_bytes(b"") and False))
    assert job.pictures[0].image.read_bytes() == b""
    assert contents(tmp_path, result.outputs) == whole[1]
