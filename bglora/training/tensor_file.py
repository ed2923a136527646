"""Writing .safetensors with the same bytes every time.

The safetensors library writes metadata in the order of a hash map, which differs from run to run; its format is a
length, a JSON header and the tensors' bytes, so the header is written here, sorted. Reading is the library's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

NAMES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}


def data_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """The tensor section: values by falling element size, then by name, as the library orders them."""
    return b"".join(_raw(tensors[name]) for name in _order(tensors))


def header_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The length and the JSON header, padded with spaces to a multiple of 8 bytes."""
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    start = 0
    for name in _order(tensors):
        tensor = tensors[name]
        end = start + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes the file whole or not at all, and through to the disk; where that fails nothing of it stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    try:
        with unfinished.open("wb") as stream:
            stream.write(header_bytes(tensors, metadata))
            for name in _order(tensors):
                stream.write(_raw(tensors[name]))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def model_hash(tensors: Mapping[str, Tensor]) -> str:
    """sd-scripts' sshs_model_hash: sha256 of the tensor section."""
    return hashlib.sha256(data_bytes(tensors)).hexdigest()


def legacy_hash(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """sd-scripts' sshs_legacy_hash: of 64 KiB at 1 MiB of the file as it would be with its ss_ metadata alone."""
    own = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    content = header_bytes(tensors, own) + data_bytes(tensors)
    return hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8]


def _order(tensors: Mapping[str, Tensor]) -> list[str]:
    return sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))


def _raw(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
