"""Models of transformers from a folder in the hub's layout: config.json, safetensors, tokenizer files.

Nothing is fetched and nothing that a file holds is run. A folder with another kind of model, with too few tensors or
with a damaged file is refused in three lines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from bglora.errors import MachineError, UserError, first_line
from bglora.nets.device import is_full, moved, too_large
from bglora.nets.quiet import quiet

VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt")
SMALLER = "Choose a smaller model of the kind, close what else uses the card, or set BGLORA_DEVICE=cpu"
CURE = "Give a whole model of this kind; `bglora models` lists the names that can be pulled."


def load(
    name: str,
    folder: Path,
    kinds: Sequence[str],
    device: torch.device,
    dtype: torch.dtype,
    twins: Sequence[tuple[str, str]] = (),
) -> Any:
    """A model, ready to use: weights in `dtype` on `device`, no training.

    Args:
        name: its class in transformers.
        folder: where config.json and the tensors lie.
        kinds: what config.json may call it (`model_type`).
        twins: buffers that hold the same numbers; a file may have one of them alone.

    Raises:
        UserError: no such model there, another one, or a damaged one.
        MachineError: this transformers has no such class.
    """
    config = read_config(folder, kinds)
    given = {"local_files_only": True, "use_safetensors": True}
    return _ready(name, folder, (folder,), given, str(config["model_type"]), device, dtype, twins)


def from_tensors(
    name: str, where: Path, config: Any, tensors: Mapping[str, torch.Tensor], device: torch.device, dtype: torch.dtype
) -> Any:
    """A model of tensors that were read from `where` and named as this class names them. Raises as `load`."""
    given = {"config": config, "state_dict": dict(tensors)}
    return _ready(name, where, (None,), given, str(config.model_type), device, dtype)


def _ready(
    name: str,
    where: Path,
    source: tuple[Any, ...],
    given: Mapping[str, Any],
    kind: str,
    device: torch.device,
    dtype: torch.dtype,
    twins: Sequence[tuple[str, str]] = (),
) -> Any:
    model, told = _read(class_of(name), where, source, given, dtype)
    missing, strange = set(told["missing_keys"]), sorted(told["mismatched_keys"])
    for one, other in (pair for twin in twins for pair in (twin, twin[::-1])):
        if one in missing and other not in told["missing_keys"]:
            model.get_buffer(one).copy_(model.get_buffer(other))
            missing.remove(one)
    lacking = sorted(missing)
    if lacking or strange:
        first = lacking[0] if lacking else strange[0][0]
        raise UserError(
            f"The weights don't fit the model {kind}: {len(lacking)} tensors are missing, "
            f"{len(strange)} have another shape, {first} first.",
            where=str(where),
            cure=CURE,
        )
    moved(model, device, what=f"The model {kind}", setting=str(where), cure=SMALLER)
    return model.eval().requires_grad_(False)


def class_of(name: str) -> Any:
    """A class of transformers. Raises `MachineError` with the version where it has none of that name."""
    import transformers

    found = getattr(transformers, name, None)
    if found is None:
        raise MachineError(
            f"transformers {transformers.__version__} has no {name}.",
            where="the package transformers",
            cure="pip install --upgrade transformers",
        )
    return found


def read_config(folder: Path, kinds: Sequence[str]) -> dict[str, Any]:
    """config.json of a folder, which must be of one of these kinds."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError("There is no model in this folder: it has no config.json.", where=str(folder), cure=CURE)
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        kind = str(config["model_type"])
    except (ValueError, KeyError, TypeError):
        raise UserError("config.json doesn't say what model this is.", where=str(path), cure=CURE) from None
    if kind not in kinds:
        raise UserError(f"This is a model {kind}, not {' or '.join(kinds)}.", where=str(path), cure=CURE)
    return config


def tokenizer(folder: Path) -> Any:
    """The tokenizer beside a model."""
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in VOCABULARIES):
        # transformers would make one that knows no words.
        raise UserError("The tokenizer can't be read: it has no vocabulary.", where=str(folder), cure=CURE)
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"The tokenizer can't be read: {first_line(error)}", where=str(folder), cure=CURE) from error


def _read(
    kind: Any, where: Path, source: tuple[Any, ...], given: Mapping[str, Any], dtype: torch.dtype
) -> tuple[Any, dict[str, Any]]:
    try:
        with quiet():
            model, told = kind.from_pretrained(
                *source, output_loading_info=True, ignore_mismatched_sizes=True, dtype=dtype, **given
            )
    except (SafetensorError, OSError, ValueError, RuntimeError, MemoryError) as error:
        if is_full(error):
            raise too_large("The model", str(where), SMALLER) from error
        raise UserError(f"The model can't be read: {first_line(error)}", where=str(where), cure=CURE) from error
    return model, told
