"""Small films drawn by code: textured places, a walker with a soft shadow, noise; encoded almost losslessly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np

HEIGHT, WIDTH = 96, 160


def place(seed: int) -> np.ndarray:
    """A background: blurred noise in the colors of the seed with some hard-edged boxes, uint8 (96, 160, 3)."""
    rng = np.random.default_rng(seed)
    ground = cv2.GaussianBlur(rng.normal(0, 1, (HEIGHT, WIDTH, 3)).astype(np.float32), (0, 0), 2.5)
    picture = rng.uniform(60, 190, 3) + ground * 90
    for _ in range(8):
        y, x = int(rng.integers(0, HEIGHT - 20)), int(rng.integers(0, WIDTH - 30))
        picture[y : y + int(rng.integers(8, 20)), x : x + int(rng.integers(8, 30))] = rng.uniform(20, 235, 3)
    return np.clip(picture, 0, 255).astype(np.uint8)


def shot(background: np.ndarray, count: int, *, walker: bool = True, seed: int = 0) -> Iterator[np.ndarray]:
    """Frames of a still camera on `background`, with somebody who walks through or nobody."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        picture = background.astype(np.float32)
        if walker:
            x, y = round(10 + (WIDTH - 40) * number / max(1, count - 1)), HEIGHT // 2
            picture[y + 30 : y + 35, x - 4 : x + 22] *= 0.6
            picture[y : y + 32, x : x + 14] = (225, 40, 170)
            picture[y - 8 : y, x + 3 : x + 11] = (250, 210, 60)
        yield np.clip(picture + rng.normal(0, 1, picture.shape), 0, 255).astype(np.uint8)


def write_film(path: Path, frames: Iterable[np.ndarray], rate: int = 24) -> Path:
    """Writes frames (H, W, 3) as H.264 in an mp4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "10", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path
