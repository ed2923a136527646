"""Tensors that were computed once, on disk under a digest of all that they depend on.

Whatever changes, a picture's pixels, a caption, the base or the machine's arithmetic, is looked up elsewhere and
computed anew; nothing is ever out of date, and all of it may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
from torch import Tensor

from bglora.training import tensor_file

LIMIT = 4 << 30
"""Bytes on disk: what was not used for longest is deleted. SDXL's latents of a picture and its mirror image at 1024
pixels are 0.5 MB."""
LEFT = 0.8
"""Share of the limit that a deletion leaves, so that not every picture brings one."""

SUFFIX = ".safetensors"
_HERE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
"""This machine among those that share the folder: a process's number says nothing about processes of others."""
_DAY = 86400.0
Make = Callable[[], Mapping[str, Tensor]]


class Store:
    """A folder of tensors.

    Args:
        folder: None: nothing is kept.
        space: what every entry depends on: the base with its revision, the device, the libraries' versions.
    """

    def __init__(self, folder: Path | None = None, space: str = "", limit: int = LIMIT) -> None:
        self.folder, self.space, self.limit = folder, space, limit
        self.found = self.made = 0
        if folder is not None:
            _clear(folder)

    def get(self, key: tuple[object, ...], make: Make) -> Mapping[str, Tensor]:
        """What `make` gives, or gave before for an equal key. A damaged file counts as none."""
        if self.folder is None:
            return make()
        path = self._path(key)
        kept = _read(path)
        if kept is not None:
            self.found += 1
            with suppress(FileNotFoundError):  # another process has deleted it since
                os.utime(path)  # the deletion goes by it
            return kept
        self.made += 1
        tensors = make()
        unfinished = path.with_name(f"{path.name}.{os.getpid()}-{_HERE}")  # several processes may make the same
        tensor_file.write(unfinished, tensors, {})
        os.replace(unfinished, path)
        return tensors

    def trim(self) -> None:
        """Deletes what was not used for longest, if there is more than the limit."""
        if self.folder is None or not self.made:
            return
        infos = sorted(_files(self.folder), key=lambda one: one[0].st_mtime_ns)
        total = sum(info.st_size for info, _ in infos)
        if total <= self.limit:
            return
        for info, path in infos:
            path.unlink(missing_ok=True)
            total -= info.st_size
            if total <= self.limit * LEFT:
                return

    def _path(self, key: tuple[object, ...]) -> Path:
        assert self.folder is not None
        name = hashlib.sha256(json.dumps([self.space, *key]).encode()).hexdigest()
        return self.folder / name[:2] / f"{name}{SUFFIX}"


def _clear(folder: Path) -> None:
    """Deletes what processes that were killed left unfinished; on another machine, what they left a day ago."""
    for path in folder.rglob(f"*{SUFFIX}.*"):
        process, _, machine = path.name.partition(f"{SUFFIX}.")[2].split(".")[0].partition("-")
        ours = machine in ("", _HERE)
        if not (process.isdigit() and psutil.pid_exists(int(process)) if ours else _age(path) < _DAY):
            path.unlink(missing_ok=True)


def _age(path: Path) -> float:
    """Seconds since a file was written; 0 if it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _files(folder: Path) -> Iterator[tuple[os.stat_result, Path]]:
    """All files below a folder, but those that another process renames or deletes meanwhile."""
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            info = path.stat()
            if stat.S_ISREG(info.st_mode):
                yield info, path


def _read(path: Path) -> dict[str, Tensor] | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        return None
    try:
        return load_file(path)
    except (SafetensorError, FileNotFoundError):
        return None
