"""Wide plates of a pan: stitched from the shot's plates, cut to training buckets, and told like any other plate.

They are named after the frame that they grew from: `<shot>/<FFFFFF>w1`, `w2` and so on from left to right. Their
provenance is as seen from that frame, and their record says which frames they are made of.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bglora.engine.stage import Outcome, Tools

if TYPE_CHECKING:
    import numpy as np

    from bglora.stages.sampled import Group

WORTH = 1.1
"""A wide plate gives training so many times as much to see as a frame does at least; less is a copy."""
Size = tuple[int, int]


def wide_outcomes(
    shot: str,
    group: Group,
    pictures: Sequence[np.ndarray],
    provenance: Sequence[np.ndarray],
    rule: dict[str, Any],
    buckets: tuple[int, int],
    keep: Container[str],
    tools: Tools,
) -> Iterator[Outcome]:
    """Wide plates of one shot; none unless its camera turned or zoomed.

    Args:
        group: the frames of the plates. pictures, provenance: the plates, one a frame.
        rule: settings of `inpaint`. buckets: resolution and step of the training buckets, see training/buckets.py.
        keep: names of plates that a person keeps, whatever of them is a guess.
    """
    from bglora.vision.wide import stitch

    if group.camera.kind != "pan" or len(pictures) < 2:
        return
    wide = stitch(pictures, provenance, group.camera.to_reference, group.gains)
    if wide is None:
        return
    made_of = sorted(group.numbers[k] for k in wide.sources)
    _, _, *frame = cuts(provenance[0].shape, *buckets)[0]
    for place, (top, left, height, width) in enumerate(cuts(wide.provenance.shape, *buckets), 1):
        if height * width < WORTH * frame[0] * frame[1]:
            return
        part = (slice(top, top + height), slice(left, left + width))
        name = f"{shot}/{group.numbers[wide.anchor]:06d}w{place}"
        yield _outcome(name, wide.picture[part], wide.provenance[part], made_of, rule, name in keep, tools)


def cuts(size: Size, resolution: int, step: int) -> list[tuple[int, int, int, int]]:
    """Where a picture is cut so that each part has a bucket's shape: (top, left, height, width), from left to right.

    The bucket that loses least is taken; a picture wider than that gives parts side by side, or evenly overlapping.
    """
    from bglora.training.buckets import bucket_sizes

    height, width = size
    sizes = [_largest(size, bucket) for bucket in bucket_sizes(resolution, step)]
    cut_h, cut_w = max(sizes, key=lambda cut: (cut[0] * cut[1], cut))
    count = max(1, math.floor(width / cut_w + 0.75))
    lefts = [(width - cut_w) // 2] if count == 1 else [round(k * (width - cut_w) / (count - 1)) for k in range(count)]
    return [((height - cut_h) // 2, left, cut_h, cut_w) for left in lefts]


def _largest(size: Size, bucket: Size) -> Size:
    """The largest part of a picture in a bucket's shape."""
    scale = min(size[0] / bucket[0], size[1] / bucket[1])
    return min(size[0], round(bucket[0] * scale)), min(size[1], round(bucket[1] * scale))


def _outcome(
    name: str,
    picture: np.ndarray,
    provenance: np.ndarray,
    made_of: list[int],
    rule: dict[str, Any],
    kept: bool,
    tools: Tools,
) -> Outcome:
    import numpy as np

    from bglora.film.png import write_png
    from bglora.stages.inpaint import PALETTE

    shares = np.bincount(provenance.ravel(), minlength=4) / provenance.size
    record = {
        "engine": "wide",
        "prompt": "",
        "seed": 0,
        "hole": round(float(shares[1:].sum()), 5),
        "recovered": round(float(shares[1]), 5),
        "guessed": round(float(shares[2]), 5),
        "untrusted": round(float(shares[3]), 5),
        "scores": {},
        "tries": 0,
        "natural": False,
        "size": list(provenance.shape),
        "made_of": made_of,
    }
    if shares[2] + shares[3] > rule["max_guessed"] and not kept:
        reason = (
            f"too much would be a guess: {shares[2] + shares[3]:.0%} of the picture, "
            f"at most {rule['max_guessed']:.0%} may be"
        )
        return Outcome(name, "dropped", reason, record=record)
    outputs = (f"plates/{name}.png", f"provenance/{name}.png")
    write_png(tools.scratch / outputs[0], picture)
    write_png(tools.scratch / outputs[1], provenance, palette=PALETTE)
    return Outcome(name, outputs=outputs, record=record)
