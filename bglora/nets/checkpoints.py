"""Published checkpoints as tensors by name. Nothing that a file holds is run.

    .safetensors                    read by its library
    .pt, .pth, .ckpt, .bin          a zip (torch.save, Lightning): its pickle is read by `pickles`, which calls nothing
    TorchScript (.pt)               the same zip with a program beside the tensors; the program is not looked at
    older torch.save                torch.load with weights_only

Which of them a file is, its first bytes say; names in the wild are too often wrong.
"""

from __future__ import annotations

import os
import pickle
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bglora.errors import MachineError, UserError
from bglora.nets import pickles

CURE = "Delete it and fetch it again: `bglora models` says which weights there are and how to get them"


def read(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, on the CPU, by dotted name.

    Dictionaries and modules inside each other are joined by dots: Lightning's `{"state_dict": {"a.b": tensor}}` gives
    `state_dict.a.b`.

    Raises:
        UserError: no such file, no checkpoint, a damaged one, or one that asks for code to be run.
        MachineError: too little memory.
    """
    if not path.is_file():
        raise UserError("There is no such checkpoint.", where=str(path), cure="Give the path of a file that is there")
    with path.open("rb") as stream:
        start = stream.read(64)
    try:
        if start.startswith(b"PK\x03\x04"):
            return pickles.read_zip(path)
        if start[8:9] == b"{":
            return load_file(path)
        if start.startswith(b"\x80"):
            return pickles.flat(_older(path))
    except pickles.RefusedError as error:
        raise UserError(
            f"This checkpoint asks for code to be run ({error}); it was not read.",
            where=str(path),
            cure="Get it from who published it, best as .safetensors; don't open this one with other programs",
        ) from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"This checkpoint can't be read without running what it holds: {_line(error)}",
            where=str(path),
            cure="Get it as .safetensors, or as a file written by torch.save of 1.6 or later",
        ) from error
    except MemoryError as error:
        raise MachineError(
            "There is too little memory to read this checkpoint, or it is damaged.",
            where=str(path),
            cure="Close other programs; if that is not it, delete the file and fetch it again",
        ) from error
    except (SafetensorError, zipfile.BadZipFile, EOFError, pickles.DamagedError, RuntimeError, OSError) as error:
        raise UserError(f"This checkpoint is damaged: {_line(error)}", where=str(path), cure=CURE) from error
    if start.startswith(b"version https://git-lfs"):
        raise UserError(
            "This is a Git LFS pointer, not the weights themselves.", where=str(path), cure="Run `git lfs pull` there"
        )
    kind = (
        "a web page" if start.lstrip().lower().startswith((b"<!doctype", b"<html")) else "no checkpoint, or a cut one"
    )
    raise UserError(f"This file is {kind}.", where=str(path), cure=CURE)


def _older(path: Path) -> object:
    """What torch.save wrote before 1.6. Raises `DamagedError` for everything that a cut or spoiled file sets off in
    torch's reader: it parses without checks, so its errors are of any kind.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, MemoryError):
        raise
    except Exception as error:
        raise pickles.DamagedError(_line(error)) from error


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes .safetensors whole or not at all; several processes may do it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, unfinished, dict(metadata or {}))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
