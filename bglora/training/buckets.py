"""Aspect buckets: which size a picture is trained at, how it is cut, and the size conditioning that SDXL gets with it.

The rules are sd-scripts' (library/train_util.py, BucketManager and get_crop_ltrb), so that the same pictures give the
same batches there and here. Sizes are (height, width).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
        if width / height > bucket_w / bucket_h:
            fit_w, fit_h = float(bucket_w), bucket_w / (width / height)
        else:
            fit_w, fit_h = bucket_h * (width / height), float(bucket_h)
        left, top = (bucket_w - fit_w) // 2, (bucket_h - fit_h) // 2
        if flipped:
            left = bucket_w - (left + fit_w)
        return height, width, int(top), int(left), bucket_h, bucket_w


def bucket_sizes(resolution: int, step: int) -> list[Size]:
    """All buckets of about resolution x resolution pixels, sorted; sides between half and 1.5 x resolution."""
    if step == 0:
        return [(resolution, resolution)]
    smallest = max(step, resolution // 2 // step * step)
    largest = max(step, 3 * resolution // 2 // step * step)
    return area_buckets(resolution, smallest, largest, step)


def area_buckets(resolution: int, smallest: int, largest: int, step: int) -> list[Size]:
    """sd-scripts' make_bucket_resolutions for a square area."""
    square = resolution // step * step
    sizes = {(square, square)} if square else set()
    for width in range(smallest, largest + 1, step):
        height = min(largest, resolution * resolution // width // step * step)
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
