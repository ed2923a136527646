"""What a LoRA file says without its weights: metadata, shapes, alphas. Imports nothing heavy."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from bglora.errors import UserError

LONGEST = 100_000_000
"""Bytes of a header at most; the format's own limit."""
CURE = "Name a LoRA file in .safetensors format."
SCALARS = {"F64": "<d", "F32": "<f", "F16": "<e", "I64": "<q", "I32": "<i"}


@dataclass(frozen=True)
class Header:
    """A LoRA file's header.

    Attributes:
        metadata: texts by name. shapes: of every tensor. alphas: values of those tensors that are one number.
    """

    metadata: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    alphas: Mapping[str, float]

    def stand_ins(self) -> dict[str, Any]:
        """What has the shapes of the tensors and the values of the alphas, without a byte of weights."""
        import numpy as np

        empty = np.zeros((), np.float32)
        return {name: np.broadcast_to(empty, shape) for name, shape in self.shapes.items()} | dict(self.alphas)


def read_header(path: Path, setting: str = "") -> Header:
    """The header of a LoRA file, also of a foreign one.

    Args:
        setting: the key that names the file, for errors.

    Raises:
        UserError: it is not there, damaged, or no LoRA.
    """
    where = f"{setting} = {path}" if setting else str(path)
    if not path.is_file():
        raise UserError("There is no LoRA file at this path.", where=where, cure=CURE)
    try:
        with path.open("rb") as stream:
            header = _read(stream, path.stat().st_size)
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise UserError("The LoRA file is damaged, or not in .safetensors format.", where=where, cure=CURE) from error
    if not any("lora" in name.lower() for name in header.shapes):
        raise UserError("The file has no LoRA weights.", where=where, cure=CURE)
    return header


def _read(stream: BinaryIO, size: int) -> Header:
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > min(size, LONGEST):
        raise ValueError("the header is longer than the file")
    told = json.loads(stream.read(length))
    metadata = told.pop("__metadata__", {})
    shapes = {name: tuple(one["shape"]) for name, one in told.items()}
    end = max((one["data_offsets"][1] for one in told.values()), default=0)
    if size < 8 + length + end:
        raise ValueError("the file was cut short")
    alphas = {}
    for name, one in told.items():
        if name.endswith(".alpha"):
            stream.seek(8 + length + one["data_offsets"][0])
            alphas[name] = _number(stream, one["dtype"])
    return Header(metadata, shapes, alphas)


def _number(stream: BinaryIO, kind: str) -> float:
    if kind == "BF16":  # the upper half of a float32
        return float(struct.unpack("<f", b"\0\0" + stream.read(2))[0])
    form = SCALARS[kind]
    return float(struct.unpack(form, stream.read(struct.calcsize(form)))[0])
