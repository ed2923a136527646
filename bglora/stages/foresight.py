"""What stages would stumble on after hours, looked at before they start: films, and the base model. Cheap."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bglora.settings import Settings

BASE_READERS = ("train", "test", "compose")


def check_base(root: Path, settings: Settings, stages: Sequence[str] = BASE_READERS) -> None:
    """Refuses stages that would not find their base model. kohya's training only writes its name down.

    Raises:
        BgloraError: see `bglora.training.presence.check_there`.
    """
    from bglora.training.presence import check_there

    readers = set(BASE_READERS) - ({"train"} if settings.train.backend == "kohya" else set())
    if readers & set(stages):
        check_there(root, settings.train.base, download=settings.project.download == "yes")


def check_film(path: Path) -> None:
    """Raises `UserError` if the file holds no video."""
    from bglora.film.video import VideoFile

    VideoFile(path).close()


def source_names(root: Path, settings: Settings) -> list[str]:
    """Names of the films and folders that `ingest` would read. Raises `UserError` if there are none."""
    from bglora.film.sources import find_sources

    return [one.name for one in find_sources(root, settings.sources.films, settings.sources.layers)]
