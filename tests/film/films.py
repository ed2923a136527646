"""Small films in awkward forms, written with PyAV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

Pictures = Iterable[np.ndarray]


def scene(number: int, height: int = 96, width: int = 160, seed: int = 0) -> np.ndarray:
    """uint8 RGB (H, W, 3): a soft view of a place that a seed stands for; a bright block moves with `number`."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(20, 220, (6, 8, 3)).astype(np.float32)
    import cv2

    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 235)
    left = 8 + (number * 3) % (width // 2)
    picture[height // 3 : height // 2, left : left + width // 10] = 250
    return picture.astype(np.uint8)


def scenes(count: int, height: int = 96, width: int = 160, seed: int = 0) -> list[np.ndarray]:
    return [scene(number, height, width, seed) for number in range(count)]


def write_film(
    path: Path,
    pictures: Pictures,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: int = 24,
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    prepare: Callable[[Any], None] | None = None,
) -> Path:
    """Writes RGB pictures as a film.

    Args:
        times: time stamps in 1/1000 s, one a picture; None for a constant rate.
        prepare: is handed the stream before the first frame (rotation, color tags).
    """
    pictures = list(pictures)
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {"crf": "12", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if prepare:
            prepare(stream)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_planes(
    path: Path,
    planes: Sequence[np.ndarray],
    pix_fmt: str,
    colorspace: int,
    color_range: int,
    codec: str = "libx264",
) -> Path:
    """Writes one picture given as Y, U, V planes, losslessly, with color tags (2: unspecified; range 0: none)."""
    height, width = planes[0].shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=24, options={"qp": "0"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_range = colorspace, color_range
        frame = av.VideoFrame(width, height, pix_fmt)
        for plane, values in zip(frame.planes, planes, strict=True):
            padded = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
            padded[:, : values.shape[1]] = values
            plane.update(padded.tobytes())
        frame.colorspace, frame.color_range = colorspace, color_range
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
