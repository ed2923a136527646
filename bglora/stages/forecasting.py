"""What `train` would do, scene by scene, said beforehand: see `bglora.training.forecast`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bglora import backends
from bglora.engine.events import Listener, Notice, silent
from bglora.engine.stage import Item, View
from bglora.stages.characters import is_character
from bglora.stages.train import job_of

if TYPE_CHECKING:
    from bglora.training.forecast import Forecast


@dataclass(frozen=True)
class Left:
    """A scene that nothing is said about, and why."""

    scene: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"scene": self.scene, "left_out": self.reason}


def foresee(view: View, items: Iterable[Item], listener: Listener = silent) -> list[Forecast | Left]:
    """A `Forecast` of each item of `train`, or why there is none. Writes nothing.

    Another program's training is planned, but neither its memory nor its time is known.

    Raises:
        UserError: a caption is empty, a picture cannot be read, the base is no SDXL-class model.
        MachineError: something that the settings ask for is not installed.
    """
    train = view.settings.train
    backend: Any = None
    found: list[Forecast | Left] = []
    for item in items:
        if is_character(item):
            found.append(Left(item.name, "its pictures are put together when it is trained"))
            continue
        if not item.payload["pictures"]:
            found.append(Left(item.name, "it has no pictures to train on and is passed over"))
            continue
        job = job_of(item, Path(view.root), train)
        if train.backend != "native":
            from bglora.training.forecast import Forecast, count

            found.append(Forecast(count(job)))
            continue
        backend = backend or backends.load("train", train.backend, train)
        found.append(backend.foresee(job, lambda text, name=item.name: listener(Notice(f"{name}: {text}"))))
    return found
