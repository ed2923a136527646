"""What the pictures of a LoRA show, in figures and words: for each checkpoint, and which of them to use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bglora import backends
from bglora.engine.stage import Tools
from bglora.stages import appearances
from bglora.stages.grids import FINAL, Grid
from bglora.training.figures import Estimate
from bglora.training.verdict import ScaleFigures

VIEW = 48
"""Pixels of a side: copies are told by their layout."""
VIEWED = 384
"""Pixels of a side, at most, at which a plate goes through the base's VAE to be compared with copies: a layout has no
more detail, and there may be many."""


@dataclass(frozen=True)
class Plates:
    """A scene's plates, uint8 (n, H, W, 3).

    Attributes:
        held_out: at the grid's size and as soft as the base's own decoder makes them.
        training: likewise; empty where there are held-out ones to measure likeness on.
        views: of the training plates, small: see `views_of`. apart: likewise of the held-out ones.
    """

    held_out: np.ndarray
    training: np.ndarray
    views: np.ndarray
    apart: np.ndarray


@dataclass(frozen=True)
class Data:
    """What is known of the training data.

    Attributes:
        pictures: how many it learned from. copies: plates that stayed out as near copies of others.
        limits: commands that let in more of them: `bglora set ingest.fps 0`.
        remedies: commands for another training, see `training.verdict.judge`.
        leaks: finds the training plates on which somebody is.
        painted: gives plates of the scene at the grid's size and as soft as the base paints, uint8 (n, H, W, 3).
    """

    pictures: int
    copies: int
    limits: Sequence[str]
    remedies: Mapping[str, str]
    leaks: Callable[[], Sequence[str]]
    painted: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Judged:
    """One LoRA file with its figures, its verdict (see `training.verdict.judge`) and the scale to use it at."""

    grid: Grid
    figures: Sequence[ScaleFigures]
    verdict: Sequence[dict[str, Any]]
    scale: float
    copy_limit: float

    @property
    def likeness(self) -> Estimate:
        """At the scale to use it at."""
        return next(figure.likeness for figure in self.figures if figure.scale == self.scale)


def judge(tools: Tools, grid: Grid, plates: Plates, data: Data) -> Judged:
    """Measures a grid beside plates, and says in words what is wrong with it."""
    from bglora.training import figures, verdict

    cluster = tools.settings.cluster
    embed = tools.once(f"embed:{cluster.backend}", lambda: backends.load("embed", cluster.backend, cluster))
    pictures = grid.pictures
    known = plates.held_out if len(plates.held_out) else plates.training
    embeddings, places = embedded(embed, pictures, known)
    here = [k for k in range(pictures.shape[1]) if k not in grid.elsewhere]
    alike = figures.likeness(embeddings, places)
    likeness, elsewhere = alike[:, here], other_places(alike[0], grid.elsewhere)
    followed, varied = followed_prompts(embeddings, elsewhere), figures.ratio(figures.variety(embeddings))
    flat = pictures.reshape(-1, *pictures.shape[3:])
    correlations = figures.nearest(flat, plates.views).reshape(pictures.shape[0], -1)
    limit = figures.copy_limit(plates.apart, plates.views)
    somebody = appearances.rates(tools, pictures, grid.asking)
    found = [
        ScaleFigures(
            scale,
            figures.bootstrap(likeness[number]),
            figures.bootstrap(likeness[number] - likeness[0]),
            followed[number],
            varied[number],
            figures.wilson(int((correlations[number] > limit).sum()), correlations.shape[1]),
            somebody.unasked[number] if somebody and somebody.unasked else None,
            somebody.asked[number] if somebody and somebody.asked else None,
        )
        for number, scale in enumerate(grid.scales)
    ]
    words = verdict.judge(
        found,
        data.pictures,
        len(plates.held_out),
        data.copies,
        data.limits,
        leaks=data.leaks,
        on_plates=lambda: appearances.share(tools, list(data.painted())),
        remedies=data.remedies,
    )
    return Judged(grid, found, words, verdict.recommend(found), limit)


def other_places(likeness: np.ndarray, elsewhere: Sequence[int]) -> list[int]:
    """The prompts that name another place than the scene's, of those meant to.

    Of a beach, "beach, sand and sea" is its own place, which its LoRA may change. There the base's pictures are as like
    the plates as those for the scene's own prompts.

    Args:
        likeness: of the base's pictures to the scene's plates, (prompts, seeds). elsewhere: numbers of the prompts.
    """
    from bglora.training import figures

    own = figures.bootstrap(np.delete(likeness, list(elsewhere), axis=0))
    return [one for one in elsewhere if figures.difference(figures.bootstrap(likeness[one]), own).high < 0]


def followed_prompts(embeddings: np.ndarray, elsewhere: Sequence[int]) -> list[Estimate]:
    """How much prompts are followed, by scale; 1: as the base does.

    The less of two: how far apart the pictures of different prompts are, and how far other places stay what they are.
    A LoRA may paint its own place in as many colors as there are prompts.
    """
    from bglora.training import figures

    apart, retained = figures.ratio(figures.following(embeddings)), figures.place_retention(embeddings, elsewhere)
    if retained is None:
        return apart
    by_scale = zip(apart, figures.ratio(retained), strict=True)
    return [min(both, key=lambda estimate: estimate.mean) for both in by_scale]


def embedded(judge: Any, pictures: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (scales, prompts, seeds, D) of the grid and (n, D) of plates, in one space: backends may choose what they
    measure by all the pictures of a call.

    Args:
        judge: the `embed` backend. pictures: uint8 (scales, prompts, seeds, H, W, 3). known: uint8 (n, H, W, 3).
    """
    flat = pictures.reshape(-1, *pictures.shape[3:])
    vectors = judge.embed([*flat, *known])
    return vectors[: len(flat)].reshape(*pictures.shape[:3], -1), vectors[len(flat) :]


def best(judged: Sequence[Judged]) -> Judged:
    """The LoRA file to use: of those with the fewest faults the one most like the place; the finished one on a tie."""
    from bglora.training.verdict import TOLERANCE, faults

    fewest = min(len(faults(one.verdict)) for one in judged)
    good = [one for one in judged if len(faults(one.verdict)) == fewest]
    most = max(one.likeness.mean for one in good)
    near = [one for one in good if one.likeness.mean >= most - TOLERANCE]
    return next((one for one in near if one.grid.step == FINAL), max(near, key=lambda one: one.grid.step))


def scores(chosen: Judged, judged: Sequence[Judged], plates: Plates, looker: str) -> dict[str, Any]:
    """The figures as JSON.

    Args:
        looker: who counted characters; empty if nobody did.
    """
    told: dict[str, Any] = {
        "by_scale": [figure.to_json() for figure in chosen.figures],
        "copy_limit": round(chosen.copy_limit, 4),
        "likeness_to": "held-out plates" if len(plates.held_out) else "training plates, for none was held out",
        "characters": {"judged": True, "by": looker} if looker else {"judged": False, "why": "test.detector is false"},
    }
    if len(judged) > 1:
        told["checkpoints"] = [
            {
                "step": one.grid.step or "final",
                "lora": one.grid.lora,
                "recommended_scale": one.scale,
                "words": [fault["word"] for fault in one.verdict],
                "likeness": one.likeness.to_json(),
            }
            for one in judged
        ]
    return told


def views_of(root: Path, paths: Sequence[str], most: int, side: int, painter: Any) -> np.ndarray:
    """What a square picture may repeat of plates that are trained on in their own shape: the squares at both ends and
    in the middle of each, and the whole of it, squeezed; as soft as the base paints, for a copy can be no sharper.

    Args:
        side: pixels of a test picture's side; plates go through the base's VAE at this size, at VIEWED if it is larger.

    Returns:
        uint8 (n, VIEW, VIEW, 3), of `most` plates, evenly chosen.
    """
    import cv2

    from bglora.training.pictures import read_picture

    side, found = min(side, VIEWED), []
    for path in _spread(paths, most):
        picture = read_picture(root / path)
        height, width = picture.shape[:2]
        short = min(height, width)
        starts = sorted({(y, x) for y in _starts(height - short) for x in _starts(width - short)})
        cuts = [picture[y : y + short, x : x + short] for y, x in starts]
        cuts += [picture] if len(cuts) > 1 else []
        squares = np.stack([cv2.resize(cut, (side, side), interpolation=cv2.INTER_AREA) for cut in cuts])
        painted = painter.as_painted(squares)
        found += [cv2.resize(one, (VIEW, VIEW), interpolation=cv2.INTER_AREA) for one in painted]
    return np.stack(found) if found else np.zeros((0, VIEW, VIEW, 3), np.uint8)


def _starts(room: int) -> tuple[int, int, int]:
    return 0, room // 2, room


def _spread(paths: Sequence[str], most: int) -> list[str]:
    return [paths[i * len(paths) // min(most, len(paths))] for i in range(min(most, len(paths)))]


def plates_of(root: Path, paths: Sequence[str], most: int, side: int, painter: Any) -> np.ndarray:
    """Plates as square pictures seen through the base's VAE; evenly chosen where there are more than `most`."""
    from bglora.training.buckets import cut_picture
    from bglora.training.pictures import cut_pixels, read_picture

    squares = []
    for path in _spread(paths, most):
        picture = read_picture(root / path)
        squares.append(cut_pixels(picture, cut_picture(picture.shape[:2], [(side, side)])))
    return painter.as_painted(np.stack(squares)) if squares else np.zeros((0, side, side, 3), np.uint8)
