"""What can be said in words about a picture of a place without a model: its light, view, shapes and colors.

Every word is a threshold on a measurement in CIELAB. Words for light are those that captions of animated backgrounds
use ("golden evening", "blue dusk", …); they say how the light looks, not what o'clock it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 64
F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Look:
    """Measurements of one picture; CIELAB units unless said otherwise.

    Attributes:
        lightness: median L, 0 black to 100 white.
        spread: standard deviation of L.
        green_red, blue_yellow: mean a and b.
        chroma: mean distance from grey.
        top: mean (L, a, b) of the upper third.
        ground: mean (L, a, b) of the lower third.
        smooth_top: share (0 to 1) of the upper third without edges.
        straight: share (0 to 1) of edge length that lies on long straight lines.
    """

    lightness: float
    spread: float
    green_red: float
    blue_yellow: float
    chroma: float
    top: tuple[float, float, float]
    ground: tuple[float, float, float]
    smooth_top: float
    straight: float


def measure(picture: np.ndarray) -> Look:
    """Measures a uint8 RGB picture (H, W, 3)."""
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)
    light, third = lab[..., 0], SIDE // 3
    edges = np.hypot(cv2.Sobel(light, cv2.CV_32F, 1, 0), cv2.Sobel(light, cv2.CV_32F, 0, 1)) / 8
    return Look(
        lightness=float(np.median(light)),
        spread=float(light.std()),
        green_red=float(lab[..., 1].mean()),
        blue_yellow=float(lab[..., 2].mean()),
        chroma=float(np.hypot(lab[..., 1], lab[..., 2]).mean()),
        top=_mean(lab[:third]),
        ground=_mean(lab[-third:]),
        smooth_top=float((edges[:third] < 1.5).mean()),
        straight=straightness(picture),
    )


def light_words(look: Look) -> str:
    """How the light looks."""
    top_light, _, top_yellow = look.top
    red, yellow = look.green_red, look.blue_yellow
    if look.lightness < 40:
        return "blue dusk" if top_yellow < -5 else "dim warm light" if yellow > 8 else "dim light"
    if red >= 7 and yellow <= -7:
        return "violet twilight"
    if red >= 7 and top_yellow < 14:
        return "golden evening"
    if yellow <= -12:
        return "deep blue light"
    if red <= -2 and yellow <= -3:
        return "clear blue light"
    if red <= -5 and yellow >= 3:
        return "turquoise light"
    if yellow >= 10:
        return "warm light"
    if look.chroma < 10 and top_light >= 58:
        return "overcast light"
    return "bright daylight" if look.lightness >= 60 else "soft daylight"


def view_words(look: Look) -> str:
    """How far the view goes: a smooth upper third is open air or open water, else something closes it."""
    if look.smooth_top >= 0.7:
        return "open view"
    return "view with open background" if look.smooth_top >= 0.45 else "closed view"


def shape_words(look: Look) -> str:
    """What outlines are like; empty where they are neither."""
    return "long straight lines" if look.straight >= 0.1 else "rounded shapes" if look.straight < 0.02 else ""


def color_words(look: Look) -> str:
    """Tone and strength of the colors."""
    strength = "vivid " if look.chroma >= 20 else "muted " if look.chroma < 10 else ""
    warmth = look.blue_yellow + 0.5 * look.green_red
    tone = "warm" if warmth > 6 else "cool" if warmth < -4 else "balanced"
    contrast = ", strong contrast" if look.spread >= 19 else ", soft contrast" if look.spread < 10 else ""
    return f"{strength}{tone} colors{contrast}"


def content_words(look: Look) -> str:
    """What colors lie above and below, for captions that name contents instead of the look."""
    above, below = color_name(*look.top), color_name(*look.ground)
    return f"{above} above, {below} below" if above != below else f"{above} all over"


def color_name(light: float, red: float, yellow: float) -> str:
    """The plain name of a CIELAB color."""
    if np.hypot(red, yellow) < 7:
        return "black" if light < 15 else "dark grey" if light < 40 else "grey" if light < 70 else "pale grey"
    hue = float(np.degrees(np.arctan2(yellow, red)) % 360)
    names = (
        (25, "pink"),
        (55, "red"),
        (75, "orange"),
        (105, "yellow"),
        (165, "green"),
        (225, "turquoise"),
        (295, "blue"),
    )
    name = next((word for limit, word in names if hue < limit), "violet" if hue < 335 else "pink")
    if name in ("red", "orange", "yellow") and np.hypot(red, yellow) < 40:
        name = "brown" if light < 55 else "beige"
    return f"dark {name}" if light < 30 else f"light {name}" if light > 72 and name != "beige" else name


def straightness(picture: np.ndarray) -> float:
    """Share (0 to 1) of edge pixels that lie on straight lines at least an eighth of the picture long."""
    scale = 256 / max(picture.shape[:2])
    size = (max(8, round(picture.shape[1] * scale)), max(8, round(picture.shape[0] * scale)))
    gray = cv2.cvtColor(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    edges = cv2.Canny(cv2.GaussianBlur(gray, (0, 0), 1.0), 40, 100)
    found = int((edges > 0).sum())
    if found < 200:
        return 0.0
    lines = cv2.HoughLinesP(edges, 1, np.pi / 180, 24, minLineLength=32, maxLineGap=2)
    drawn = np.zeros_like(edges)
    for line in () if lines is None else lines.reshape(-1, 4):
        cv2.line(drawn, tuple(map(int, line[:2])), tuple(map(int, line[2:])), 255, 2)
    return float(((edges > 0) & (drawn > 0)).sum() / found)


def _mean(lab: F32) -> tuple[float, float, float]:
    light, red, yellow = lab.reshape(-1, 3).mean(0).tolist()
    return light, red, yellow
