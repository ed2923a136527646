"""Fill by LaMa: goes on with what surrounds the hole, lines and patterns too. Reads no words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bglora.backends import weights

if TYPE_CHECKING:
    import numpy as np

    from bglora.nets.lama import Lama

SETTING = "inpaint.lama"


def identity(settings: Any) -> str:
    """Which weights, and how large a picture they get."""
    return f"lama/1 {weights.identity(settings.lama)} {settings.lama_side}/{settings.lama_tile}"


def create(settings: Any) -> LamaFill:
    """The engine with its weights loaded, on the graphics card if there is one."""
    from bglora.nets import lama

    path = weights.find(settings.lama, setting=SETTING)
    generator = lama.load(path, converted=weights.conversions(settings.lama))
    network = lama.Lama(generator, compiled=settings.lama_compile)
    return LamaFill(network, settings.lama_side, settings.lama_tile)


class LamaFill:
    """LaMa, the surroundings of each hole at a size that it knows.

    Args:
        side, tile: the settings `lama_side` and `lama_tile`.
    """

    def __init__(self, network: Lama, side: int, tile: int) -> None:
        self.network, self.side, self.tile = network, side, tile

    def fill(self, frame: np.ndarray, hole: np.ndarray, *, seed: int, prompt: str = "") -> np.ndarray:
        """See `FillBackend.fill`; the prompt is not read."""
        return self.fill_many([frame], [hole], [seed], [prompt])[0]

    def fill_many(
        self,
        frames: Sequence[np.ndarray],
        holes: Sequence[np.ndarray],
        seeds: Sequence[int],
        prompts: Sequence[str] = (),
    ) -> list[np.ndarray]:
        """The same for many pictures: those of one size go through the network together.

        The network makes no random choice. An odd seed has the picture looked at in the mirror, which gives another
        guess of the same worth.
        """
        turned = [slice(None, None, -1 if seed % 2 else 1) for seed in seeds]
        made = self.network.fill(
            [frame[:, way] for frame, way in zip(frames, turned, strict=True)],
            [hole[:, way] for hole, way in zip(holes, turned, strict=True)],
            side=self.side,
            tile=self.tile,
        )
        import numpy as np

        return [np.ascontiguousarray(one[:, way]) for one, way in zip(made, turned, strict=True)]
