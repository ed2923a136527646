"""States that sd-scripts saved: which is whole, and where a training that goes on from it stands.

sd-scripts puts back weights, moments and schedule, but not the place in the data; and `train_state.json` counts the
steps of the run that wrote it, not of the training. So only states of whole epochs are gone on from, their steps are
counted here, and `initial_step` says them. `skip_until_initial_step` is never used: with accumulation it skips too far.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
PARTS = ("optimizer.bin", "scheduler.bin", "random_states_0.pkl")
"""What a state must have beside its weights; the random states are written last."""
HEADER_LIMIT = 100_000_000
"""Bytes; safetensors itself takes no longer header."""


@dataclass(frozen=True)
class State:
    """A whole state at the end of an epoch (counted from 1)."""

    path: Path
    epoch: int


@dataclass
class Progress:
    """What is known of a training that may take several runs; kept beside its states.

    Attributes:
        total: optimizer steps in all. per_epoch: of one epoch. 0: not known yet.
        images: pictures of an epoch, repeats counted.
        curve: [step, loss, None, learning rate].
        runs: how often sd-scripts was started.
    """

    total: int = 0
    per_epoch: int = 0
    images: int = 0
    curve: list[list[float | None]] = field(default_factory=list)
    runs: int = 0

    def save(self, path: Path) -> None:
        """Writes it whole or not at all."""
        unfinished = path.with_name(path.name + ".part")
        unfinished.write_text(json.dumps(asdict(self)), "utf-8")
        unfinished.replace(path)

    @classmethod
    def load(cls, path: Path) -> Progress:
        """What was saved; nothing known if nothing was."""
        return cls(**json.loads(path.read_text("utf-8"))) if path.is_file() else cls()


def newest(folder: Path, name: str) -> State | None:
    """The last whole state of an epoch; half-written ones and those within an epoch don't count."""
    pattern = re.compile(re.escape(name) + r"-(\d{6})-state")
    found = [State(path, int(match[1])) for path in _folders(folder) if (match := pattern.fullmatch(path.name))]
    return max((one for one in found if whole(one.path)), key=lambda one: one.epoch, default=None)


def clear(folder: Path, kept: State | None) -> None:
    """Removes all that earlier runs left but one state: a half-written one is never taken for whole later."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if kept is not None and path == kept.path:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def whole(state: Path) -> bool:
    """Whether a state was written to its end: all parts are there and none is cut."""
    weights = [state / name for name in WEIGHTS if (state / name).is_file()]
    if not weights or not all(_part_whole(path) for path in (*weights, *(state / name for name in PARTS))):
        return False
    return isinstance(_train_state(state).get("current_epoch"), int)


def tensors_whole(path: Path) -> bool:
    """Whether a .safetensors file is as long as its header says."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size, HEADER_LIMIT):
            return False
        try:
            header = json.loads(stream.read(length))
        except ValueError:
            return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return size == 8 + length + max(ends, default=0)


def _part_whole(path: Path) -> bool:
    """torch writes zip archives, whose table of contents comes last."""
    if not path.is_file():
        return False
    return tensors_whole(path) if path.suffix == ".safetensors" else zipfile.is_zipfile(path)


def _train_state(state: Path) -> dict[str, Any]:
    try:
        found = json.loads((state / "train_state.json").read_text("utf-8"))
    except (OSError, ValueError):  # not there, or cut
        return {}
    return found if isinstance(found, dict) else {}


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
