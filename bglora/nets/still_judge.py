"""A small classifier that looks at what `mini` paints: which of its four places, and whether a character is there.

Convolutions only. A map with one score for every 8 x 8 pixels says where a character is, and the highest few scores say
whether there is one: a character covers few cells, an average over the picture would hide it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

PLACES = ("harbor town", "beach", "room", "sea floor")
SIDE = 192
CELL = 8
HIGHEST = 4


@dataclass(frozen=True)
class Verdicts:
    """What the judge says of n pictures: `places` (n, 4) sum to 1 in the order of PLACES, `character` (n,), 0..1."""

    places: NDArray[np.float32]
    character: NDArray[np.float32]


class StillJudge(nn.Module):
    """Pictures (n, 3, h, w) in -1..1, h and w multiples of 16, to logits of places (n, 4) and cells (n, h/8, w/8)."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            _layer(3, 24, 2, size=5), _layer(24, 48, 2), _Residual(48), _layer(48, 96, 2), _Residual(96)
        )
        self.coarse = nn.Sequential(_layer(96, 160, 2), _Residual(160))
        self.place = nn.Linear(2 * 160, len(PLACES))
        self.narrow = nn.Conv2d(160, 32, 1)
        self.joined = _layer(96 + 32, 64, 1)
        self.cell = nn.Conv2d(64, 1, 1)
        self.scale = nn.Parameter(torch.ones(()))
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(pictures)
        coarse = self.coarse(fine)
        places = self.place(torch.cat([coarse.mean((2, 3)), coarse.amax((2, 3))], dim=1))
        wide = nn.functional.interpolate(self.narrow(coarse), size=fine.shape[2:], mode="bilinear")
        return places, self.cell(self.joined(torch.cat([fine, wide], dim=1)))[:, 0]

    def character(self, cells: Tensor) -> Tensor:
        """Logits (n,) of a character anywhere, from the logits of cells (n, h, w)."""
        highest = cells.flatten(1).topk(HIGHEST, dim=1).values.mean(dim=1)
        return self.scale * highest + self.shift

    @torch.inference_mode()
    def judge(self, pictures: Sequence[NDArray[np.uint8]]) -> Verdicts:
        """Verdicts on RGB pictures (h, w, 3), uint8, of any sizes; each is seen as it is and mirrored."""
        places, character = [], []
        for picture in pictures:
            found, cells = self(as_input([picture, picture[:, ::-1]]))
            places.append(found.mean(0).softmax(0).numpy())
            character.append(float(self.character(cells).mean().sigmoid()))
        return Verdicts(np.array(places, np.float32).reshape(-1, len(PLACES)), np.array(character, np.float32))


def load_judge(path: Path) -> StillJudge:
    """The trained judge from its file, on the CPU in float32.

    Raises:
        safetensors.SafetensorError: the file is damaged.
        RuntimeError: it holds other weights.
    """
    from safetensors.torch import load_file

    judge = StillJudge()
    kept = {name: value.float() for name, value in load_file(path).items()}
    kept |= {name: value for name, value in judge.state_dict().items() if name.endswith("num_batches_tracked")}
    judge.load_state_dict(kept)
    return judge.eval()


def as_input(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Pictures of one size as (n, 3, h, w) in -1..1, of about SIDE x SIDE pixels, both sides multiples of 16."""
    height, width = pictures[0].shape[:2]
    scale = SIDE / (height * width) ** 0.5
    size = tuple(max(2, round(side * scale / (2 * CELL))) * 2 * CELL for side in (width, height))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = [
        picture if size == (width, height) else cv2.resize(picture, size, interpolation=method) for picture in pictures
    ]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def _layer(before: int, after: int, stride: int, size: int = 3) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, size, stride, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = _layer(width, width, 1)

    def forward(self, seen: Tensor) -> Any:
        return seen + self.layer(seen)
