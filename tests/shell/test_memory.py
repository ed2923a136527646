"""How much a stage takes, and how many of its processes fit on a graphics card."""

from __future__ import annotations

from pathlib import Path

import pytest

from bglora.engine.executors import CONTEXT_GB
from bglora.project.memory import fitting, needs
from bglora.project.workers import worker_needs
from bglora.settings import Settings
from bglora.stages import load


@pytest.mark.parametrize(
    ("gpu_gb", "free_gb", "processes"),
    [(6.0, 140.0, 21), (13.0, 24.0, 1), (6.0, 12.0, 1), (6.0, 13.0, 2), (18.0, 12.0, 1), (0.0, 80.0, None)],
)
def test_as_many_processes_as_fit_on_the_card_and_one_at_least(
    gpu_gb: float, free_gb: float, processes: int | None
) -> None:
    assert fitting(gpu_gb, free_gb) == processes
    assert processes in (None, 1) or processes * (gpu_gb + CONTEXT_GB) <= free_gb


def test_without_a_card_nothing_is_held_back() -> None:
    assert fitting(6.0, None) is None


def test_the_studio_takes_the_card_for_segment_and_inpaint_with_all_their_nets_at_once() -> None:
    settings = Settings()
    studio = settings.model_copy(
        update={
            "segment": settings.segment.model_copy(update={"backend": "sam2"}),
            "inpaint": settings.inpaint.model_copy(update={"engine": "hybrid", "detector": True}),
        }
    )
    plain, nets = (needs(load(), one, 4) for one in (settings, studio))
    assert plain["segment"].gpu_gb == plain["inpaint"].gpu_gb == 0
    assert nets["inpaint"].gpu_gb > nets["segment"].gpu_gb > 4
    assert nets["segment"].processes == 4 and nets["train"].processes == 1


def test_a_worker_of_a_cluster_takes_what_one_process_does_and_a_training_its_cards(tmp_path: Path) -> None:
    settings = Settings()
    film, base = tmp_path / "films" / "a.mp4", tmp_path / "models" / "base.safetensors"
    for path in (film, base, tmp_path / "p" / "sources" / "b.mp4"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    several = settings.model_copy(
        update={
            "sources": settings.sources.model_copy(update={"films": (str(film), "sources/b.mp4", "gone.mp4")}),
            "train": settings.train.model_copy(update={"processes": 2, "base": str(base)}),
        }
    )
    found = worker_needs(tmp_path / "p", load(), several)
    assert found["segment"].memory_gb == needs(load(), settings, 1)["segment"].memory_gb
    assert {name: one.gpus for name, one in found.items() if one.gpus != 1} == {"train": 2}
    assert found["ingest"].beside == (film,), "the project's own folder is looked at anyway"
    assert base in found["train"].beside and found["segment"].beside == ()
