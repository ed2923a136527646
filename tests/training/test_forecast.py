"""What `train --dry` says: counts as the training has them, memory and what fits, time of real steps, nothing kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from bglora.console.forecasts import forecast_lines
from bglora.stages.forecasting import foresee
from bglora.stages.train import Train
from bglora.training import forecast
from bglora.training.base import load_base
from bglora.training.forecast import Counts, Forecast, Timing
from bglora.training.memory import GIB
from tests.stages.trained_project import project
from tests.training.tiny_job import Watcher, tiny_job, train

SQUARE, WIDE = (64, 64), (64, 32)


def unheard(text: str) -> None:
    """Nobody listens."""


def said(found: Forecast) -> str:
    return "\n".join(line.plain for line in forecast_lines(found))


def test_counts_are_those_of_the_training(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "pictures", epochs=2, samples=0)
    Image.new("RGB", (64, 128)).save(job.pictures[0].image)
    Image.new("L", (64, 128)).save(job.pictures[0].provenance or "")
    job = replace(job, repeats=3)
    found = forecast.count(job)
    record = train(job, Watcher(tmp_path)).record
    assert (found.steps, found.seen) == (record["steps"], record["pictures_seen"])
    assert (found.pictures, found.held_out, found.repeats, found.per_step) == (5, 2, 3, 2)
    assert sum(found.buckets.values()) == 5 and len(found.buckets) == 2
    sizes = [height * width for height, width in found.buckets]
    assert sizes == sorted(sizes, reverse=True)


def test_real_steps_are_measured_and_nothing_of_them_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view = project(tmp_path / "film")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    base = load_base(view.settings.train.base)
    weights = {name: value.clone() for name, value in base.unet.state_dict().items()}
    (found,) = foresee(view, Train().items(view))
    assert isinstance(found, Forecast) and found.timing is not None
    assert found.timing.steps == forecast.STEPS and found.timing.step > 0
    assert found.fits and not found.leaner and found.device == "cpu"
    temporary.rmdir()  # empty
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    after = base.unet.state_dict()
    assert after.keys() == weights.keys() and all(torch.equal(after[name], value) for name, value in weights.items())
    assert not base.unet.training
    values = json.loads(json.dumps(found.to_json()))
    assert values["seconds"] > 0 and values["classic"]["seen"] == 18000
    assert values["classic"]["seconds_here"] == pytest.approx(18000 * values["step_seconds"] / 2, rel=0.01)
    assert "6 pictures, 1 held out; each 2 times an epoch" in said(found) and "fits" in said(found)


def test_what_does_not_fit_is_not_measured_and_told_with_the_commands_that_help(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "pictures", batch_size=8)
    base = load_base(job.base)
    need = forecast.forecast(job, base, 1 << 40, unheard)
    found = forecast.forecast(job, base, int(need.needed * GIB * 0.7), unheard)
    assert not found.fits and found.timing is None and found.leaner
    assert found.leaner[0] == "bglora set train.gradient_checkpointing true"
    assert all(command in said(found) for command in found.leaner)
    assert "refused" in said(found) and "not measured" in said(found)
    nothing = forecast.forecast(job, base, 0, unheard)
    assert not nothing.leaner and "no setting fits" in said(nothing)
    forced = forecast.forecast(replace(job, force=True), base, 0, unheard)
    assert forced.timing is not None and "forced" in said(forced)


def test_smaller_buckets_count_in_proportion() -> None:
    counts = Counts("scene-00", "Town", 4, 1, 1, 1, {SQUARE: 2, WIDE: 2}, 4, 4, 1)
    found = Forecast(counts, {"total": 1.0}, 1.0, 2.0, "cpu", timing=Timing(2.0, 3, 0.5))
    assert found.seconds == 2.0 * 4 * 0.75 + 0.5 * 5
    assert found.classic_seconds == 18000 * 2.0


def test_another_programs_training_is_counted_only(tmp_path: Path) -> None:
    view = project(tmp_path, train={"backend": "kohya"})
    (found,) = foresee(view, Train().items(view))
    assert isinstance(found, Forecast) and found.need is None and found.counts.pictures == 6
    assert "another program trains" in said(found) and found.to_json()["fits"] is None
