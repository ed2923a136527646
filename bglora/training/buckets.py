"""Aspect buckets: which size a picture is trained at, how it is cut, and the size conditioning that SDXL gets with it.

The rules are sd-scripts' (library/train_util.py, BucketManager and get_crop_ltrb), so that the same pictures give the
same batches there and here. Sizes are (height, width).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bglora.errors import UserError

Size = tuple[int, int]


@dataclass(frozen=True)
class Cut:
    """How one picture becomes a training picture.

    Attributes:
        original: size of the picture as it lies on disk.
        resized: size it is scaled to, covering the bucket.
        bucket: size it is then cropped to, at the center.
    """

    original: Size
    resized: Size
    bucket: Size

    @property
    def offset(self) -> Size:
        """(top, left) of the crop in the resized picture."""
        return (self.resized[0] - self.bucket[0]) // 2, (self.resized[1] - self.bucket[1]) // 2

    def time_ids(self, flipped: bool) -> tuple[int, int, int, int, int, int]:
        """SDXL's micro-conditioning: original size, crop (top, left), target size.

        The crop is not the pixel crop: it comes from fitting the picture inside the bucket, as in sd-scripts.
        """
        (height, width), (bucket_h, bucket_w) = self.original, self.bucket
        left, top, right, _ = self.fitted
        if flipped:
            left = bucket_w - right
        return height, width, int(top), int(left), bucket_h, bucket_w

    @property
    def whole(self) -> tuple[int, int, int, int, int, int]:
        """Micro-conditioning as a stock pipeline gives it when it paints: a whole picture of the bucket's size."""
        return *self.bucket, 0, 0, *self.bucket

    @property
    def fitted(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the picture fitted inside the bucket (get_crop_ltrb)."""
        (height, width), (bucket_h, bucket_w) = self.original, self.bucket
        aspect = width / height
        if bucket_w / bucket_h > aspect:
            fit_w, fit_h = bucket_h * aspect, float(bucket_h)
        else:
            fit_w, fit_h = float(bucket_w), bucket_w / aspect
        left, top = (bucket_w - fit_w) // 2, (bucket_h - fit_h) // 2
        return left, top, left + fit_w, top + fit_h

    @property
    def aspect_error(self) -> float:
        """How far the bucket's aspect is from the picture's."""
        return abs(self.bucket[1] / self.bucket[0] - self.original[1] / self.original[0])


@dataclass(frozen=True)
class Bucketing:
    """How pictures are sorted by aspect.

    Attributes:
        area: (height, width) whose area a bucket has at most.
        smallest, largest: sides of buckets, multiples of `step`; 0: half the area's shorter, 1.5 times its longer side.
        step: bucket sides are multiples of it; 0: one bucket of the area's size, cropped at the center.
        no_upscale: pictures are only ever made smaller, and smallest and largest count for nothing.
    """

    area: Size
    smallest: int = 0
    largest: int = 0
    step: int = 64
    no_upscale: bool = False

    @property
    def sizes(self) -> list[Size]:
        """All buckets there may be, sorted; none with `no_upscale`, where they come with the pictures.

        Raises:
            UserError: the bounds leave no room for the area itself.
        """
        if self.step == 0:
            return [self.area]
        if self.no_upscale:
            return []
        smallest, largest = whole_bounds(self.area, *self.bounds, self.step)
        return area_buckets(self.area, smallest, largest, self.step)

    @property
    def bounds(self) -> tuple[int, int]:
        """Sides of buckets as asked for, before they are rounded to the step."""
        smallest = self.smallest or max(self.step, min(self.area) // 2 // self.step * self.step)
        return smallest, self.largest or max(*self.area, 3 * max(self.area) // 2 // self.step * self.step)

    def cuts(self, originals: Sequence[Size]) -> list[Cut]:
        """How each picture, of a size (height, width), is scaled and cropped."""
        if self.no_upscale and self.step:
            return [shrink_picture(original, self.area[0] * self.area[1], self.step) for original in originals]
        sizes = self.sizes
        return [cut_picture(original, sizes) for original in originals]


def whole_bounds(area: Size, smallest: int, largest: int, step: int) -> tuple[int, int]:
    """Bounds of bucket sides, the lower rounded down and the upper up to a multiple of the step.

    Raises:
        UserError: the area's sides aren't between them.
    """
    smallest, largest = smallest - smallest % step, largest + -largest % step
    if smallest > min(area) or largest < max(area):
        raise UserError(
            f"Buckets have sides from {smallest} to {largest} pixels, which leaves no room for {area[1]} x {area[0]}.",
            where="train.min_bucket, train.max_bucket",
            cure=f"bglora set train.min_bucket {min(area) // 2}, train.max_bucket {2 * max(area)}; or both 0",
        )
    return smallest, largest


def bucket_sizes(resolution: int, step: int) -> list[Size]:
    """All buckets of about resolution x resolution pixels, sorted; sides between half and 1.5 x resolution."""
    return Bucketing((resolution, resolution), step=step).sizes


def area_buckets(area: Size, smallest: int, largest: int, step: int) -> list[Size]:
    """sd-scripts' make_bucket_resolutions: buckets of at most an area's pixels, sorted by width."""
    pixels = area[0] * area[1]
    square = int(math.sqrt(pixels) // step) * step
    sizes = {(square, square)} if square else set()
    for width in range(smallest, largest + 1, step):
        height = min(largest, pixels // width // step * step)
        if height >= smallest:
            sizes |= {(height, width), (width, height)}
    return sorted(sizes, key=lambda size: (size[1], size[0]))


def cut_picture(original: Size, buckets: Sequence[Size]) -> Cut:
    """Chooses the bucket nearest in aspect and the scale that covers it."""
    height, width = original
    aspect = width / height
    if original in buckets:
        bucket = original
    else:
        errors = np.abs(np.array([w / h for h, w in buckets]) - aspect)
        bucket = buckets[int(errors.argmin())]
    scale = bucket[0] / height if aspect > bucket[1] / bucket[0] else bucket[1] / width
    return Cut(original, (math.floor(height * scale + 0.5), math.floor(width * scale + 0.5)), bucket)


def shrink_picture(original: Size, pixels: int, step: int) -> Cut:
    """Scales to an area at most, never up, and crops to multiples of the step.

    Raises:
        UserError: a side would be shorter than the step.
    """
    resized = original if original[0] * original[1] <= pixels else _shrunk(original, pixels, step)
    bucket = resized[0] - resized[0] % step, resized[1] - resized[1] % step
    if 0 in bucket:
        raise UserError(
            f"A picture of {original[1]} x {original[0]} pixels has a side under {step} pixels once it is scaled.",
            where="train.bucket_no_upscale",
            cure="bglora set train.bucket_no_upscale false; or leave the picture out",
        )
    return Cut(original, resized, bucket)


def _shrunk(original: Size, pixels: int, step: int) -> Size:
    """The size of an area with one side a multiple of the step, whichever side keeps the aspect better."""
    aspect = original[1] / original[0]
    width = math.sqrt(pixels * aspect)
    by_width, by_height = _whole(width, step), _whole(pixels / width, step)
    height_then, width_then = _whole(by_width / aspect, step), _whole(by_height * aspect, step)
    if not by_height or not height_then:
        return 0, by_width
    if not by_width or not width_then:
        return by_height, 0
    if abs(by_width / height_then - aspect) < abs(width_then / by_height - aspect):
        return math.floor(by_width / aspect + 0.5), by_width
    return by_height, math.floor(by_height * aspect + 0.5)


def _whole(side: float, step: int) -> int:
    whole = math.floor(side + 0.5)
    return whole - whole % step
