"""Shadow or object: what a difference does to the color of the background.

A shadow, a soft shade or a faint reflection multiplies all three channels by one ratio; an object replaces the color.
What the ratio leaves unexplained, against the difference as a whole, parts the two (in the line of Horprasert 1999,
Cucchiara 2003). Where that is unclear, colors that objects and effects showed elsewhere in the shot decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import F32, U8, Bool, around, gray, grow, largest_channel, shrink

BINS = 16
OCTAVE = 4
"""Steps per octave in which brightness is learned, channel by channel."""
DARKEST, STEPS = 3.0, 21
"""Least log2 brightness of a color (of 8 added grey levels), and steps from there."""
DEEPEST, RATIO_STEPS = -3.0, 18
"""Least log2 ratio of frame and background, and steps from there."""
UNSEEN_COLOR, UNSEEN_RATIO = 3e-4, 3e-5
"""Likelihood of what a shot hasn't shown yet: somebody may wear any color, but a shot's light has few ratios."""
FEWEST = 300
"""Pixels of objects and of effects from which their colors are learned."""
RIM = 4
"""Pixels at a width of 512 around objects' hulls in which effects are not learned from: blur mixes both, and parts of
somebody that were taken for shade lie there."""
INNER = 2
"""Pixels at an object's border that blur mixes with the background."""
CLEAR = 8.0
"""Grey levels from which a difference tells what a shade does to the background."""
RATIO = (0.3, 1.25)
EXPLAINED = 0.22
FAINT = 12.0
TEXTURE_WINDOW, TEXTURE, ALIKE = 7, 6.0, 0.6
"""Pixels; deviation in grey levels from which a background has texture; correlation from which it goes on."""
TEXTURE_WEIGHT = 2.0
BRIGHTER, BRIGHT = 1.1, 20.0
"""What brightens the background by more than this ratio and this many grey levels is no shade."""


@dataclass(frozen=True)
class Change:
    """How a frame differs from its background; all float32 (H, W), grey levels.

    Attributes:
        difference: largest channel of the 3 x 3 mean of the difference.
        ratio: the one ratio for all channels that explains most of it.
        unexplained: largest channel of what the ratio leaves.
        texture: evidence from texture, -0.8 to 1.2: below 0 the background's texture goes on in the frame as it does in
            a shadow, above 0 it is gone; 0 where the background has none.
    """

    difference: F32
    ratio: F32
    unexplained: F32
    texture: F32


def change(frame: U8, mean: F32) -> Change:
    """Compares a frame (at the background's exposure) with the background's mean."""
    picture = frame.astype(np.float32)
    products = cv2.blur(_channel_sum(picture * mean), (3, 3))
    squares = cv2.blur(_channel_sum(mean * mean), (3, 3))
    ratio = products / np.maximum(squares, 25.0)
    soft, behind = cv2.blur(picture, (3, 3)), cv2.blur(mean, (3, 3))
    rest = largest_channel(np.abs(soft - ratio[..., None] * behind))
    return Change(largest_channel(np.abs(soft - behind)), ratio.astype(np.float32), rest, _texture(frame, mean))


def _channel_sum(values: F32) -> F32:
    return np.asarray(cv2.transform(values, np.ones((1, 3), np.float32)), np.float32).reshape(values.shape[:2])


def _texture(frame: U8, mean: F32) -> F32:
    """Evidence from the normalized correlation of frame and background in a window, see `Change.texture`."""
    window = (TEXTURE_WINDOW, TEXTURE_WINDOW)
    a, b = gray(frame), gray(mean)
    mean_a, mean_b = cv2.blur(a, window), cv2.blur(b, window)
    own = np.maximum(cv2.blur(a * a, window) - mean_a * mean_a, 0)
    behind = np.maximum(cv2.blur(b * b, window) - mean_b * mean_b, 0)
    alike = (cv2.blur(a * b, window) - mean_a * mean_b) / np.sqrt((own + 4) * (behind + 4))
    textured = behind / (behind + TEXTURE * TEXTURE)
    return np.asarray(2 * textured * np.clip(ALIKE - alike, -0.4, 0.6), np.float32)


def object_evidence(seen: Change, noise: F32) -> F32:
    """Evidence for an object against a shadow, about -3 to 5: above 0 an object by these rules; float32 (H, W)."""
    allowed = EXPLAINED * seen.difference + 1.6 * noise
    evidence = np.clip(seen.unexplained / allowed - 1.0, -1.0, 2.0)
    odd = (seen.ratio < RATIO[0]) | (seen.ratio > RATIO[1])
    odd |= (seen.ratio > BRIGHTER) & (seen.difference > BRIGHT)
    evidence = np.where(odd, np.maximum(evidence, 1.0), evidence)
    faint = (seen.difference < FAINT) | ((seen.ratio > 0.8) & (seen.ratio < 1.15) & (seen.unexplained < 6))
    evidence = np.where(faint, np.minimum(evidence, -0.5), evidence)
    return np.asarray(evidence + TEXTURE_WEIGHT * seen.texture, np.float32)


@dataclass(frozen=True)
class Colors:
    """What a shot's objects and their effects look like.

    Attributes:
        of_color: log likelihood ratio object : effect by the color of a pixel, float32 (16, 16, 16).
        of_object: log likelihood of an object's color, by log brightness of the three channels, float32 (21, 21, 21).
        of_shade: log likelihood of what shade makes of the background's color, by the log ratio of each channel,
            float32 (18, 18, 18); a shot's shadows have few such ratios, before any background.
    """

    of_color: F32
    of_object: F32
    of_shade: F32

    def color_evidence(self, frame: U8) -> F32:
        """Log ratio object : effect of each pixel's color, clipped to -3 to 3; float32 (H, W)."""
        return self.of_color.ravel()[color_bins(frame)]

    def look_evidence(self, frame: U8, mean: F32) -> F32:
        """Log likelihood ratio of "somebody of this color" to "the background under the shot's shade"; float32 (H, W).

        Both are likelihoods of the log color, so that they compare whatever the background is.
        """
        own = _octaves(frame)
        seen = self.of_object.ravel()[_steps(own, DARKEST, STEPS)]
        return np.asarray(seen - self.of_shade.ravel()[_steps(own - _octaves(mean), DEEPEST, RATIO_STEPS)], np.float32)


class ColorLearner:
    """Learns the colors of a shot from masks, frame by frame."""

    def __init__(self) -> None:
        self._colors = np.zeros((2, BINS**3), np.float64)
        self._object = np.zeros(STEPS**3, np.float64)
        self._shade = np.zeros(RATIO_STEPS**3, np.float64)

    def add(self, frame: U8, mean: F32, objects: Bool, effects: Bool) -> None:
        """One frame with its background and masks, bool (H, W). Rims of objects, partly covered, count for neither."""
        if not objects.any() and not effects.any():
            return
        rim = max(2, round(RIM * frame.shape[1] / 512))
        box = around(objects | effects, rim + 1)
        frame, mean, objects, effects = frame[box], mean[box], objects[box], effects[box]
        colors, own, behind = color_bins(frame), _octaves(frame), _octaves(mean)
        for side, inside in ((0, objects), (1, effects)):
            self._colors[side] += np.bincount(colors[inside], minlength=BINS**3)
        inner = shrink(objects, INNER)
        self._object += np.bincount(_steps(own[inner], DARKEST, STEPS), minlength=STEPS**3)
        clear = largest_channel(cv2.absdiff(cv2.blur(frame, (3, 3)).astype(np.float32), cv2.blur(mean, (3, 3)))) > CLEAR
        apart = effects & clear & ~grow(hulls(objects, effects), rim)
        ratios = _steps(own[apart] - behind[apart], DEEPEST, RATIO_STEPS)
        self._shade += np.bincount(ratios, minlength=RATIO_STEPS**3)

    def colors(self) -> Colors | None:
        """What was learned; None when objects or effects are too few to tell."""
        if self._colors.sum(1).min() < FEWEST:
            return None
        looks = np.zeros((STEPS,) * 3, np.float32), np.zeros((RATIO_STEPS,) * 3, np.float32)
        if min(self._object.sum(), self._shade.sum()) >= FEWEST:
            looks = (
                _log_likelihood(self._object, STEPS, UNSEEN_COLOR),
                _log_likelihood(self._shade, RATIO_STEPS, UNSEEN_RATIO),
            )
        return Colors(_log_ratio(self._colors, BINS), *looks)


def hulls(objects: Bool, effects: Bool) -> Bool:
    """Convex hulls of the objects that hang together, also by their effects; bool (H, W)."""
    out = np.zeros(objects.shape, np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(grow(objects | effects, 2).astype(np.uint8))
    for k in range(1, count):
        x, y, w, h = (int(v) for v in stats[k, :4])
        box = (slice(y, y + h), slice(x, x + w))
        ys, xs = np.nonzero(objects[box] & (labels[box] == k))
        if len(xs):
            cv2.fillConvexPoly(out, cv2.convexHull(np.stack([xs + x, ys + y], 1).astype(np.int32)), 1)
    return out > 0


def color_bins(frame: U8) -> NDArray[np.int32]:
    """The bin of each pixel's color among `BINS` cubed; int32 (H, W)."""
    q = (frame >> 4).astype(np.int32)
    return (q[..., 0] * BINS + q[..., 1]) * BINS + q[..., 2]


def _octaves(picture: np.ndarray) -> F32:
    """Log2 brightness of a picture's 3 x 3 mean per channel, float32 (H, W, 3)."""
    return np.log2(cv2.blur(picture.astype(np.float32), (3, 3)) + 8)


def _steps(octaves: F32, least: float, count: int) -> NDArray[np.int32]:
    """The bin of each (..., 3) among `count` cubed."""
    q = np.clip((octaves - least) * OCTAVE, 0, count - 1).astype(np.int32)
    return (q[..., 0] * count + q[..., 1]) * count + q[..., 2]


def _log_likelihood(histogram: np.ndarray, bins: int, unseen: float) -> F32:
    smooth = _smooth(histogram, bins)
    return np.asarray(np.log(smooth / smooth.sum() + unseen), np.float32)


def _log_ratio(histograms: np.ndarray, bins: int) -> F32:
    a, b = (_smooth(histogram, bins) for histogram in histograms)
    prior = 0.2 / bins**3
    ratio = np.log((a / a.sum() + prior) / (b / b.sum() + prior))
    trusted = np.minimum(1.0, _smooth(histograms.sum(0), bins) / 30.0)
    return np.asarray(np.clip(ratio * trusted, -3, 3), np.float32)


def _smooth(histogram: np.ndarray, bins: int) -> np.ndarray:
    cube = histogram.reshape(bins, bins, bins).astype(np.float64)
    for axis in range(3):
        padded = np.concatenate([cube.take([0], axis), cube, cube.take([-1], axis)], axis)
        n = cube.shape[axis]
        cube = 0.25 * padded.take(range(n), axis) + 0.5 * cube + 0.25 * padded.take(range(2, n + 2), axis)
    return cube
