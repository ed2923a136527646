"""What every backend needs, what is there, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Set
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from bglora.backends import ROLES, TABLES, Backend, Needs, known, names_of_weights, needs, weights
from bglora.errors import MachineError, UserError

OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
"""Distributions that all install the same folder cv2: with two of them, one lies half over the other."""

MEMORY_GB = 4.0
DISK_GB = 5.0


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes:
        name: what was looked at.
        state: `ok`; `warning` if all works but something may hurt; `missing` if something can't work;
            `unused` if it can't work but the settings don't name it; `wrong` if the project says something that can't
            be done.
        found: what is there.
        mend: the command that mends it; empty if nothing has to be.
    """

    name: str
    state: Literal["ok", "warning", "missing", "unused", "wrong"]
    found: str
    mend: str = ""

    def to_json(self) -> dict[str, Any]:
        """The check as JSON values."""
        return asdict(self)


def examine(folder: Path, settings: Any, used: Set[tuple[str, str]]) -> list[Check]:
    """Looks at this machine and at every backend.

    Args:
        folder: on the disk that would be written to.
        settings: `Settings`; they name the weights.
        used: role and name of the backends that the settings name.
    """
    return [
        _python(),
        _films(),
        _torch(),
        *_torchvision(),
        _opencv(),
        _memory(),
        _disk(folder),
        *(
            _backend(role, name, one, getattr(settings, TABLES[role]), (role, name) in used)
            for role in ROLES
            for name, one in known(role).items()
        ),
    ]


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", "ok", found)


def _films() -> Check:
    if find_spec("av") is None:
        return Check("film decoding", "missing", "PyAV is not here", "pip install av")
    import av

    version = ".".join(str(part) for part in av.library_versions.get("libavcodec", ()))
    lacking = [name for name in ("h264", "hevc", "vp9", "prores") if name not in av.codecs_available]
    found = f"PyAV {av.__version__}, libavcodec {version}"
    if lacking:
        return Check("film decoding", "warning", f"{found}, without {', '.join(lacking)}", "pip install --upgrade av")
    return Check("film decoding", "ok", found)


def _torch() -> Check:
    if find_spec("torch") is None:
        return Check("torch", "missing", "not here", "pip install torch")
    import torch

    from bglora.nets.device import device

    try:
        where = device()
    except UserError as error:
        return Check("torch", "wrong", f"{error.what} ({error.where})", error.cure)
    if where.type == "cuda":
        card = torch.cuda.get_device_properties(where)
        return Check("torch", "ok", f"{torch.__version__} on {card.name}, {card.total_memory / 2**30:.0f} GB")
    if torch.backends.mps.is_available():
        return Check("torch", "ok", f"{torch.__version__} on Apple's mps")
    return Check("torch", "ok", f"{torch.__version__} on the processor, {torch.get_num_threads()} threads")


def _torchvision() -> Iterator[Check]:
    """A torchvision of another build than torch crashes when it is used: tried in a process of its own."""
    if find_spec("torchvision") is None:
        return
    version = importlib.metadata.version("torchvision")
    code = "import torch, torchvision; torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)"
    try:
        tried = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, check=False)
        works = tried.returncode == 0
    except subprocess.TimeoutExpired:
        works = False
    if works:
        yield Check("torchvision", "ok", version)
    else:
        mend = "pip install --force-reinstall torch torchvision, both from the same index"
        yield Check("torchvision", "warning", f"{version} was built for another torch and fails", mend)


def _opencv() -> Check:
    there = [name for name in OPENCV if _version(name)]
    if not there:
        return Check("opencv", "missing", "not here", "pip install opencv-contrib-python-headless")
    if len(there) > 1:
        mend = f"pip uninstall -y {' '.join(there)} && pip install --no-deps opencv-contrib-python-headless"
        return Check("opencv", "warning", f"{len(there)} packages share the folder cv2: {', '.join(there)}", mend)
    return Check("opencv", "ok", f"{there[0]} {_version(there[0])}")


def _memory() -> Check:
    import psutil

    memory = psutil.virtual_memory()
    found = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GB free"
    if memory.available < MEMORY_GB * 2**30:
        return Check("memory", "warning", found, "close other programs, or use --jobs 1")
    return Check("memory", "ok", found)


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:.0f} GB free at {folder}"
    if free < DISK_GB * 1e9:
        return Check("disk", "warning", found, "bglora clean")
    return Check("disk", "ok", found)


def _backend(role: str, name: str, backend: Backend, table: Any, used: bool) -> Check:
    """Packages, weights, device and memory of one backend. `table`: the settings that it reads."""
    title = f"{role}: {name}"
    lacks, mends = _packages(backend)
    if not lacks:
        try:
            lacks, mends = _weights(role, name, backend, table)
        except UserError as error:
            return Check(title, "wrong" if used else "unused", f"{error.what} ({error.where})", error.cure)
    if lacks:
        return Check(title, "missing" if used else "unused", f"lacks {', '.join(lacks)}", " && ".join(mends))
    takes, short = _takes(needs(role, name, table, _card_gb()))
    found = f"{backend.sentence} {takes}"
    if short:
        return Check(title, "warning" if used else "unused", found, short)
    return Check(title, "ok", found)


def _packages(backend: Backend) -> tuple[list[str], list[str]]:
    missing = backend.missing()
    return [f"the package {name}" for name in missing], [backend.mend()] if missing else []


def _weights(role: str, name: str, backend: Backend, table: Any) -> tuple[list[str], list[str]]:
    """What is lacking and the commands that bring it. Raises `UserError` for a path at which nothing is."""
    from bglora.assets import asset

    for shipped in backend.weights:
        try:
            asset(shipped)
        except FileNotFoundError:
            return [f"the model {shipped}"], ["pip install --force-reinstall bglora"]
    absent = {}
    for setting, wanted in names_of_weights(role, name, table):
        try:
            weights.find(wanted, setting=setting)
        except MachineError:
            one = weights.entry(wanted)
            size = f", {one.bytes / 1e9:.2g} GB" if one and one.bytes else ""
            absent[one.name if one else wanted] = f"the weights {wanted} ({setting}{size})"
    return list(absent.values()), [f"bglora models pull {' '.join(absent)}"] if absent else []


def _takes(wanted: Needs) -> tuple[str, str]:
    """The memory that a backend takes against what this machine has, and what to do if that is too little."""
    import psutil

    there = psutil.virtual_memory().total / 2**30
    card = _card_gb() if wanted.gpu_gb else 0.0
    text = f"Takes {wanted.memory_gb:g} of {there:.0f} GB of memory"
    if wanted.gpu_gb:
        text += f", {wanted.gpu_gb:g} of {card:.0f} GB on the card" if card else "; no card: on the processor, slowly"
    short = wanted.memory_gb > there or (card and wanted.gpu_gb > card)
    return f"{text}.", "choose a smaller model in the settings, or another backend" if short else ""


def _card_gb() -> float:
    """Memory of the card that is used; 0 if there is none, or none can be."""
    if find_spec("torch") is None:
        return 0.0
    from bglora.nets.device import card_gb

    try:
        return card_gb()
    except UserError:  # the check of torch says so
        return 0.0


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
