"""Fill by the package simple-lama-inpainting, for whoever has it. The backend lama does the same, and more quickly.

The package runs the program inside big-lama.pt (TorchScript); lama takes only the tensors out of it.
"""

from __future__ import annotations

import os
from importlib import metadata
from typing import TYPE_CHECKING, Any

from bglora.backends import weights
from bglora.errors import UserError, first_line

if TYPE_CHECKING:
    import numpy as np

SETTING = "inpaint.lama"
VARIABLE = "LAMA_MODEL"
"""Where the package looks for the file; without it, it would fetch one of its own."""


def identity(settings: Any) -> str:
    """Which version of the package, and which file."""
    try:
        version = metadata.version("simple-lama-inpainting")
    except metadata.PackageNotFoundError:
        version = "absent"
    return f"simple_lama/1 {version} {weights.identity(settings.lama)}"


def create(settings: Any) -> SimpleLamaFill:
    """The package's own object, with the file that the settings name."""
    from simple_lama_inpainting import SimpleLama

    from bglora.nets.device import device

    path = weights.find(settings.lama, setting=SETTING)
    if path.suffix not in {".pt", ".pth"} or not path.is_file():
        raise UserError(
            "simple-lama-inpainting reads TorchScript files only (big-lama.pt).",
            where=f"{SETTING} = {settings.lama}",
            cure="bglora set inpaint.engine lama (it reads every kind of file)",
        )
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(path)
    try:
        return SimpleLamaFill(SimpleLama(device()))
    except RuntimeError as error:
        raise UserError(
            f"simple-lama-inpainting can't read this file: {first_line(error)}",
            where=str(path),
            cure="bglora set inpaint.engine lama (it reads every kind of file)",
        ) from error
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


class SimpleLamaFill:
    """One picture after the other, at its own size."""

    def __init__(self, package: Any) -> None:
        self.package = package

    def fill(self, frame: np.ndarray, hole: np.ndarray, *, seed: int, prompt: str = "") -> np.ndarray:
        """See `FillBackend.fill`; neither seed nor prompt is read."""
        import numpy as np

        if not hole.any():
            return frame.copy()
        height, width = hole.shape
        # It returns the picture with the padding on the right and at the bottom that it was given for the network.
        made = np.asarray(self.package(frame, hole.astype(np.uint8) * 255))[:height, :width]
        return np.where(hole[..., None], made, frame).astype(np.uint8)
