"""Whether weights can be weights at all: told from the first bytes of their files, before anything is made."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from bglora.backends.weights import TENSOR_FILES
from bglora.errors import UserError

LONGEST_HEADER = 100_000_000
"""Bytes that the header of a .safetensors file may have; the format's own limit."""


def check(where: Path, *, setting: str) -> None:
    """Opens no tensor and imports no library of models.

    Args:
        where: a file or folder that is there. setting: the key that names it, for the error.

    Raises:
        UserError: the file is no checkpoint, it is cut short, or the folder holds none.
    """
    files = [where] if where.is_file() else [path for path in where.rglob("*") if path.suffix in TENSOR_FILES]
    told = f"{setting} = {where}"
    if not files:
        raise UserError(
            "There are no weights in this folder.",
            where=told,
            cure="Give the folder in which the .safetensors file lies; `bglora models` lists weights to fetch.",
        )
    for file in files:
        fault = _fault(file)
        if fault:
            raise UserError(
                f"{file.name} is {fault}.",
                where=told,
                cure=f"Set {setting} to weights, or copy these again; `bglora models` lists weights to fetch.",
            )


def _fault(file: Path) -> str:
    """What is wrong with a file in words; empty if nothing can be seen from outside."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(9)
        if start.startswith(b"PK\x03\x04"):
            return "" if zipfile.is_zipfile(file) else "a checkpoint that was cut short"
        if start[:1] == b"\x80":  # an older torch.save
            return ""
        length = int.from_bytes(start[:8], "little")
        if start[8:] != b"{" or length > LONGEST_HEADER:
            return "no checkpoint"
        stream.seek(8)
        header = stream.read(length)
    try:
        tensors = json.loads(header)
        end = max((one["data_offsets"][1] for name, one in tensors.items() if name != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, IndexError):
        return "a checkpoint that was cut short" if len(header) < length else "no checkpoint"
    return "a checkpoint that was cut short" if size < 8 + length + end else ""
