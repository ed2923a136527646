"""LaMa: loading published checkpoints of every kind, and filling holes with them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from bglora.errors import UserError
from bglora.nets import checkpoints, ffc
from bglora.nets.device import Fetched, device, in_halves, to_device, wide_dtype
from bglora.nets.folded import FoldedGenerator
from bglora.nets.lama_pictures import Region, Window, joined, padded, paste, reduced, regions, tiles

PADDED_TO = 8
"""What published programs pad height and width to; generators that halve more often need more."""
IN_FOLDERS = ("models/best.ckpt", "best.ckpt", "big-lama.pt", "big-lama/models/best.ckpt")
"""Where the checkpoint is in a folder as it is published."""
FILES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
PIXELS_AT_ONCE = 2**23
"""Pixels of a batch on a graphics card; on the CPU a batch gains nothing."""
CURE = "Give the generator big-lama: big-lama.pt, the folder big-lama, or a .safetensors of it"


def load(path: Path, converted: Path | None = None, activation: str | None = None) -> ffc.Generator:
    """The generator of a checkpoint, on the CPU, float32, ready to use.

    Args:
        path: a file of any kind that `checkpoints.read` knows, or a folder with one.
        converted: folder in which a file that is no .safetensors is kept as one once it was read; None: nowhere.
        activation: what follows the last convolution, a name of `ffc.ACTIVATIONS`; None: what a config.yaml beside the
            file says, else sigmoid, as in all published models.

    Raises:
        UserError: no checkpoint, a damaged one, one that asks for code to be run, or another model's.
    """
    file = _file(path)
    tensors = _tensors(file, converted)
    try:
        architecture = ffc.architecture_of(tensors, activation or _activation(file))
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(f"This LaMa checkpoint lacks parts: {error}.", where=str(file), cure=CURE) from error
    with torch.device("meta"):
        generator = ffc.Generator(architecture)
    expected = generator.state_dict()
    _check({name: tensor.shape for name, tensor in expected.items()}, tensors, file)
    counters = {name: torch.zeros((), dtype=torch.int64) for name in expected if name.endswith(ffc.COUNTERS)}
    generator.load_state_dict(counters | {name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return generator.eval().requires_grad_(False)


def generator_tensors(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The generator's tensors, names from `model.` on, whatever stands before them in the file.

    Counters of batches are left out. Raises `UserError` where no generator is in it, or more than one.
    """
    anchors = [name for name in tensors if name == ffc.ANCHOR or name.endswith(f".{ffc.ANCHOR}")]
    if len(anchors) > 1:
        raise UserError("There is more than one LaMa generator in this checkpoint.", where=str(file), cure=CURE)
    if not anchors:
        plain = any(re.search(r"(^|\.)model\.1\.weight$", name) for name in tensors)
        what = "a LaMa without Fourier convolutions (lama-regular)" if plain else "no LaMa generator"
        raise UserError(f"This checkpoint holds {what}.", where=str(file), cure=CURE)
    prefix = anchors[0].removesuffix(ffc.ANCHOR)
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}model.")}
    return {name: tensor for name, tensor in own.items() if not name.endswith(ffc.COUNTERS)}


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in IN_FOLDERS:
        if (path / name).is_file():
            return path / name
    found = sorted(one for one in path.iterdir() if one.suffix in FILES)
    if len(found) == 1:
        return found[0]
    what = "more than one checkpoint" if found else "no checkpoint"
    raise UserError(f"There is {what} in this folder.", where=str(path), cure="Give the path of the file itself")


def _tensors(file: Path, converted: Path | None) -> dict[str, Tensor]:
    if file.suffix == ".safetensors" or converted is None or not file.is_file():
        return generator_tensors(checkpoints.read(file), file)
    of_path = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:16]
    stat = file.stat()
    copy = converted / f"lama-{of_path}-{stat.st_size:x}-{stat.st_mtime_ns:x}.safetensors"
    if copy.is_file():
        return checkpoints.read(copy)
    tensors = generator_tensors(checkpoints.read(file), file)
    try:
        checkpoints.write(copy, tensors)
    except (OSError, SafetensorError) as error:  # a disk that is full or read-only
        import warnings

        warnings.warn(f"{file} is read anew every time: nothing can be kept in {converted} ({error}).", stacklevel=3)
        return tensors
    for older in converted.glob(f"lama-{of_path}-*.safetensors"):
        if older != copy:
            older.unlink(missing_ok=True)
    return tensors


def _check(expected: Mapping[str, torch.Size], tensors: Mapping[str, Tensor], file: Path) -> None:
    needed = {name for name in expected if not name.endswith(ffc.COUNTERS)}
    missing, unknown = sorted(needed - set(tensors)), sorted(set(tensors) - needed)
    wrong = sorted(name for name in needed & set(tensors) if tensors[name].shape != expected[name])
    if unknown and not missing:
        names = ", ".join(unknown[:3])
        raise UserError(
            f"This LaMa has parts that big-lama doesn't ({names}): another kind of generator.",
            where=str(file),
            cure=CURE,
        )
    if missing or wrong:
        names = ", ".join((missing or wrong)[:3])
        what = "lacks tensors" if missing else "has tensors of other sizes"
        raise UserError(f"This LaMa checkpoint {what}: {names}.", where=str(file), cure=CURE)


def _activation(file: Path) -> str:
    """What follows the last convolution: `add_out_act` of a config.yaml beside the checkpoint, else sigmoid."""
    for config in (file.parent / "config.yaml", file.parent.parent / "config.yaml"):
        if config.is_file():
            text = config.read_text("utf-8", errors="replace")
            table = re.search(r"^generator:\n((?:[ \t]+.*\n|\n)*)", text + "\n", re.MULTILINE)
            found = re.search(r"^[ \t]+add_out_act:[ \t]*(\w+)", table[1], re.MULTILINE) if table else None
            if found:
                word = found[1].lower()
                return {"true": "tanh", "false": "none"}.get(word, word if word in ffc.ACTIVATIONS else "sigmoid")
    return "sigmoid"


def network_input(image: Tensor, hole: Tensor) -> Tensor:
    """What the generator sees: (B, 3, H, W) in 0..1 without its holes, and (B, 1, H, W), 1 in holes, as 4 channels."""
    return torch.cat([image * (1 - hole), hole], 1)


def prepared(pictures: np.ndarray, masks: np.ndarray, where: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Padded pictures (B, H, W, 3) and masks (B, H, W), uint8 or bool, as the network's numbers.

    Returns:
        image: float32 (B, 3, H, W) in 0..1. hole: float32 (B, 1, H, W), 1 where a mask is above 0, else 0.
    """
    image = to_device(pictures, where).permute(0, 3, 1, 2).float() / 255
    return image, (to_device(masks, where) > 0).float()[:, None]


def to_bytes(picture: Tensor) -> np.ndarray:
    """(B, 3, H, W) in 0..1 to uint8 (B, H, W, 3): cut, not rounded, as the published programs do."""
    return Fetched(_bytes(picture)).numpy()


def _bytes(picture: Tensor) -> Tensor:
    return (picture * 255).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


class Lama:
    """A generator that fills holes.

    Args:
        generator: as `load` gives it.
        where, numbers: device and precision; chosen by what is here if not given.
        compiled: see `FoldedGenerator.compile_blocks`; on a graphics card only.
    """

    def __init__(
        self,
        generator: ffc.Generator,
        where: torch.device | None = None,
        numbers: torch.dtype | None = None,
        *,
        compiled: bool = False,
    ) -> None:
        where = where or device()
        self.network = FoldedGenerator(generator, where, numbers or wide_dtype(where))
        if compiled and where.type == "cuda":
            self.network.compile_blocks()
        self.multiple = max(PADDED_TO, generator.architecture.multiple)
        self.smallest = generator.architecture.smallest

    def fill(
        self,
        pictures: Sequence[np.ndarray],
        holes: Sequence[np.ndarray],
        *,
        side: int = 0,
        tile: int = 1024,
        batch: int | None = None,
    ) -> list[np.ndarray]:
        """Pictures with their holes filled; all other pixels stay as they are, bit by bit.

        Args:
            pictures: uint8 RGB (H, W, 3), of any sizes.
            holes: (H, W), bool or uint8; any value above 0 is hole.
            side: longest side up to which a picture is looked at as a whole and at its own size; 0: always.
            tile: longest side that the network gets at once; larger ones are done in overlapping tiles.
            batch: tiles of one size that it gets together; None: as many as the device does well with.

        Raises:
            MachineError: the device has too little memory for one tile.
        """
        results = [np.array(picture, order="C") for picture in pictures]
        views: list[tuple[int, Region, tuple[int, int], list[Window]]] = []
        jobs: list[tuple[np.ndarray, np.ndarray]] = []
        for number, (picture, hole) in enumerate(zip(pictures, holes, strict=True)):
            for region in regions(hole > 0, side):
                at = region.window.rows_columns
                part, mask = reduced(picture[at], hole[at] > 0, side)
                windows = list(tiles(mask, tile))
                jobs += [(part[one.rows_columns], mask[one.rows_columns]) for one in windows]
                views.append((number, region, mask.shape, windows))
        made = iter(self._made(jobs, batch))
        for number, region, shape, windows in views:
            parts = [(window, next(made)()) for window in windows]
            paste(results[number], region, joined(shape, parts, tile))
        return results

    def _made(self, jobs: Sequence[tuple[np.ndarray, np.ndarray]], batch: int | None) -> list[Callable[[], np.ndarray]]:
        """What gives uint8 (h, w, 3) for each picture and hole, those of one padded size in batches.

        A card has then been told all it has to do, and goes on while the first results are put in their places.
        """
        buckets: dict[tuple[int, ...], list[int]] = {}
        for number, (_, hole) in enumerate(jobs):
            buckets.setdefault(padded(hole, self.multiple, self.smallest).shape, []).append(number)
        made: dict[int, Callable[[], np.ndarray]] = {}
        for (height, width), numbers in buckets.items():
            usual = 1 if self.network.device.type == "cpu" else max(1, PIXELS_AT_ONCE // (height * width))
            pictures = in_halves(
                lambda part: self._batch([jobs[number] for number in part]),
                numbers,
                batch or usual,
                where=f"LaMa on a picture of {width} x {height}",
                cure="bglora set inpaint.lama_tile 512, bglora set inpaint.lama_side 512, or BGLORA_DEVICE=cpu",
            )
            made |= dict(zip(numbers, pictures, strict=True))
        return [made[number] for number in range(len(jobs))]

    def _batch(self, jobs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Callable[[], np.ndarray]]:
        pictures, masks = (
            np.stack([padded(job[kind], self.multiple, self.smallest) for job in jobs]) for kind in (0, 1)
        )
        image, hole = prepared(pictures, masks, self.network.device)
        output = Fetched(_bytes(self.network(network_input(image, hole))))
        return [partial(_cut, output, number, mask.shape) for number, (_, mask) in enumerate(jobs)]


def _cut(output: Fetched, number: int, size: tuple[int, int]) -> np.ndarray:
    return output.numpy()[number, : size[0], : size[1]]
