"""Shots drawn with numpy whose truth is known: textured backgrounds, a figure with a shadow, a camera that may move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

HEIGHT, WIDTH = 144, 256


@dataclass(frozen=True)
class Drawn:
    """Frames and truth, one per frame: `frames`, `clean` uint8 (H, W, 3), `objects`, `shadows` bool (H, W)."""

    frames: list[np.ndarray]
    clean: list[np.ndarray]
    objects: list[np.ndarray]
    shadows: list[np.ndarray]


def texture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A picture with structure at all scales, float32 (H, W, 3), about 40 to 215."""
    rng = np.random.default_rng(seed)
    out = np.full((height, width, 3), 125.0, np.float32)
    for cells, strength in ((3, 34.0), (9, 26.0), (28, 18.0)):
        noise = rng.standard_normal((cells, round(cells * width / height), 3)).astype(np.float32)
        out += strength * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(26):
        y, x = int(rng.integers(0, height - 8)), int(rng.integers(0, width - 8))
        h, w = int(rng.integers(5, height // 3)), int(rng.integers(5, width // 6))
        out[y : y + h, x : x + w] += rng.uniform(-45, 45, 3).astype(np.float32)
    return np.clip(cv2.GaussianBlur(out, (3, 3), 0.6), 25, 225)


def coat(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A figure's own texture: stripes of a strong color, float32 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    color = np.array([(225, 40, 50), (40, 60, 215), (250, 210, 30)][int(rng.integers(0, 3))], np.float32)
    stripes = ((np.arange(height) // 6) % 2).astype(np.float32)[:, None, None]
    return np.broadcast_to(color * (0.75 + 0.25 * stripes), (height, width, 3)).copy()


def figure(center: tuple[float, float], radius: tuple[float, float]) -> np.ndarray:
    """Coverage of an ellipse with soft edges, float32 (H, W), 0 to 1."""
    ys, xs = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    away = np.sqrt(((xs - center[0]) / radius[0]) ** 2 + ((ys - center[1]) / radius[1]) ** 2)
    return np.clip((1 - away) * min(radius) + 0.5, 0, 1)


def walk(k: int, count: int) -> tuple[float, float]:
    """Where somebody who crosses the picture stands in frame `k`."""
    return 30 + (WIDTH - 60) * k / (count - 1), 82.0


def shot(
    seed: int,
    count: int = 16,
    *,
    place: Callable[[int, int], tuple[float, float] | None] = walk,
    radius: tuple[float, float] = (15, 24),
    pan: float = 0.0,
    flicker: float = 0.0,
    noise: float = 1.5,
    water: bool = False,
) -> Drawn:
    """Draws a shot.

    Args:
        place: (x, y) of the figure in frame k of count, None where nobody is there.
        radius: half axes of the figure in pixels.
        pan: pixels by which the view moves to the right per frame.
        flicker: largest change of exposure.
        noise: standard deviation of the grain.
        water: the lower right of the picture shimmers.
    """
    rng = np.random.default_rng(seed + 1)
    wide = texture(seed, width=WIDTH + int(abs(pan) * count) + 8)
    paint = coat(seed)
    gains = 1 + flicker * np.sin(np.arange(count) * 1.7)
    out = Drawn([], [], [], [])
    for k in range(count):
        move = np.array([[1, 0, -pan * k], [0, 1, 0]], np.float32)
        clean = cv2.warpAffine(wide, move, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
        if water:
            pool = cv2.resize(rng.standard_normal((14, 20, 1)).astype(np.float32), (100, 60)) * 22
            clean[-60:, -100:] += pool[..., None]
        where = place(k, count)
        body = np.zeros((HEIGHT, WIDTH), np.float32) if where is None else figure(where, radius)
        shade = body * 0
        if where is not None:
            shade = figure((where[0] + 14, where[1] + radius[1]), (radius[0] * 1.5, 7)) * (1 - body)
        picture = clean * (1 - 0.42 * shade[..., None])
        picture = picture * (1 - body[..., None]) + paint * body[..., None]
        grain = rng.normal(0, noise, picture.shape) if noise else 0.0
        out.frames.append(np.clip(np.rint(picture * gains[k] + grain), 0, 255).astype(np.uint8))
        out.clean.append(np.clip(np.rint(clean * gains[k]), 0, 255).astype(np.uint8))
        out.objects.append(body > 0.5)
        out.shadows.append((shade > 0.3) & (body < 0.05))
    return out


def recall(found: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Share of the true pixels that were found, over all frames."""
    return sum(int((f & t).sum()) for f, t in zip(found, truth, strict=True)) / max(1, sum(int(t.sum()) for t in truth))


def overlap(found: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Intersection over union, over all frames."""
    both = sum(int((f & t).sum()) for f, t in zip(found, truth, strict=True))
    return both / max(1, sum(int((f | t).sum()) for f, t in zip(found, truth, strict=True)))


def traveled(
    seed: int,
    count: int = 16,
    *,
    speeds: tuple[float, float, float] = (1.0, 2.0, 5.0),
    place: Callable[[int, int], tuple[float, float] | None] = walk,
    radius: tuple[float, float] = (15, 24),
    noise: float = 1.5,
) -> Drawn:
    """Draws a shot whose camera travels sideways past a far wall, a nearer one below a skyline, and near posts.

    Args:
        speeds: pixels per frame by which the three layers move to the left. place: (x, y) of the figure, who stands
            between the nearer wall and the posts, None where nobody is there.
    """
    rng = np.random.default_rng(seed + 1)
    shapes = [_everywhere, _skyline, _posts]
    layers = []
    for k, (speed, shape) in enumerate(zip(speeds, shapes, strict=True)):
        width = WIDTH + int(abs(speed) * count) + 8
        layers.append((speed, texture(seed + 100 * k, width=width), shape(width)))
    paint = coat(seed) + 0.6 * (texture(seed + 50) - 125)
    out = Drawn([], [], [], [])
    for k in range(count):
        pictures, covers = [], []
        for speed, picture, cover in layers:
            move = np.array([[1, 0, -speed * k], [0, 1, 0]], np.float32)
            pictures.append(cv2.warpAffine(picture, move, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC))
            covers.append(cv2.warpAffine(cover, move, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)[..., None])
        where = place(k, count)
        body = np.zeros((HEIGHT, WIDTH), np.float32) if where is None else figure(where, radius)
        behind = pictures[0] * (1 - covers[1]) + pictures[1] * covers[1]
        clean = behind * (1 - covers[2]) + pictures[2] * covers[2]
        at = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
        if where is not None:
            at[:, 2] = where[0] - WIDTH / 2, where[1] - HEIGHT / 2
        worn = cv2.warpAffine(paint, at, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
        shown = behind * (1 - body[..., None]) + worn * body[..., None]
        shown = shown * (1 - covers[2]) + pictures[2] * covers[2] + rng.normal(0, noise, clean.shape)
        out.frames.append(np.clip(np.rint(shown), 0, 255).astype(np.uint8))
        out.clean.append(np.clip(np.rint(clean), 0, 255).astype(np.uint8))
        out.objects.append((body > 0.5) & (covers[2][..., 0] < 0.5))
        out.shadows.append(np.zeros((HEIGHT, WIDTH), bool))
    return out


def _everywhere(width: int) -> np.ndarray:
    return np.ones((HEIGHT, width), np.float32)


def _skyline(width: int) -> np.ndarray:
    """Everything below a line of roofs, float32 (H, W)."""
    roofs = 0.5 * HEIGHT + 9 * np.sign(np.sin(np.arange(width) / 17.0)) + 5 * np.sin(np.arange(width) / 40.0)
    return (np.arange(HEIGHT)[:, None] > roofs[None]).astype(np.float32)


def _posts(width: int) -> np.ndarray:
    """Upright posts, float32 (H, W)."""
    cover = np.zeros((HEIGHT, width), np.float32)
    for x in range(70, width - 14, 110):
        cover[20:, x : x + 13] = 1
    return cover
