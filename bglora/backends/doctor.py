"""What every backend needs, what is there, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from bglora.backends import ROLES, Backend, known

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
            `wrong` if the project says something that can't be done.
        found: what is there.
        mend: the command that mends it; empty if nothing has to be.
    """

    name: str
    state: Literal["ok", "warning", "missing", "wrong"]
    found: str
    mend: str = ""

    def to_json(self) -> dict[str, Any]:
        """The check as JSON values."""
        return asdict(self)


def examine(folder: Path) -> list[Check]:
    """Looks at this machine and at every backend. `folder` is on the disk that would be written to."""
    return [
        _python(),
        _films(),
        _torch(),
        *_torchvision(),
        _opencv(),
        _memory(),
        _disk(folder),
        *(_backend(role, name, one) for role in ROLES for name, one in known(role).items()),
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

    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
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


def _backend(role: str, name: str, backend: Backend) -> Check:
    from bglora.assets import asset

    title = f"{role}: {name}"
    missing = backend.missing()
    if missing:
        return Check(title, "missing", f"lacks {', '.join(missing)}", backend.mend())
    for weights in backend.weights:
        try:
            asset(weights)
        except FileNotFoundError:
            return Check(title, "missing", f"lacks the model {weights}", "pip install --force-reinstall bglora")
    memory = f"{backend.memory_gb:g} GB of memory" + (f", {backend.gpu_gb:g} GB on the card" if backend.gpu_gb else "")
    return Check(title, "ok", f"{backend.sentence} {memory}.")


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def models() -> list[dict[str, Any]]:
    """The weights that this version works with: name, what it is, license, folder and bytes."""
    from bglora.assets import asset

    folder = asset("mini")
    return [
        {
            "name": "mini",
            "about": "A small base model of SDXL's kind; a LoRA trained on it works on it alone.",
            "license": "Apache-2.0",
            "path": str(folder),
            "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        }
    ]
