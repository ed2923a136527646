"""Fill engines side by side on pictures of this film, with scores: one sheet, and nothing else is changed.

Where a hole is left after recovery, each engine fills it and is rated on withheld pixels of the same picture. Where
other frames show everything, what they show is withheld: the engine fills it, and the truth stands beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bglora import backends
from bglora.engine.events import Listener, Notice, silent
from bglora.engine.stage import Item, View
from bglora.errors import UserError
from bglora.stages import engines
from bglora.stages.inpaint import RECOVERED, Inpaint

if TYPE_CHECKING:
    import numpy as np

    from bglora.stages.sampled import Group
    from bglora.vision.rating import FillScores

PICTURES = 12
"""Pictures on the sheet without --limit."""
SHEET = "report/compare.png"


@dataclass(frozen=True)
class Compared:
    """One picture and what each engine made of it.

    Attributes:
        picture: its name. share: of the frame that the engines filled, 0 to 1.
        frame: at the sheet's size, uint8 (H, W, 3), the hole outlined.
        truth: what other frames show there, where they do; None where nobody knows.
        filled, scores: by engine; a score is None where nothing could be withheld.
    """

    picture: str
    share: float
    frame: np.ndarray
    truth: np.ndarray | None
    filled: Mapping[str, np.ndarray]
    scores: Mapping[str, FillScores | None]

    def rated(self) -> list[dict[str, Any]]:
        """The scores as `engines.routing_table` wants them."""
        share = {"share": round(self.share, 5)}
        return [{"engine": name} | share | engines.rounded(scores) for name, scores in self.scores.items() if scores]


@dataclass(frozen=True)
class Comparison:
    """The sheet's path, the pictures on it with the ratings, and the table of engines by share missing."""

    path: Path
    pictures: Sequence[str]
    rated: Sequence[Sequence[Mapping[str, Any]]]
    table: Mapping[str, Any]

    @property
    def routes(self) -> dict[str, str]:
        """The setting `inpaint.routes` that the ratings suggest; empty where they don't."""
        return engines.routes(self.table)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        rated = [{"picture": name, "engines": list(rows)} for name, rows in zip(self.pictures, self.rated, strict=True)]
        return {"path": str(self.path), "pictures": rated, "bins": self.table["bins"], "routes": self.routes}


def compare(
    view: View,
    names: Sequence[str],
    limit: int | None = None,
    only: str | None = None,
    listener: Listener = silent,
) -> Comparison:
    """Makes the sheet report/compare.png.

    Args:
        view: the project as it stands, segmented.
        names: engines. limit: pictures, 12 by default. only: pictures or shots whose name matches.
        listener: hears of each picture that is done.
    Raises:
        UserError: no such engine; no picture with a character in it.
    """
    names = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not names:
        raise UserError("No engine is named.", where="--compare", cure="Name some: bglora inpaint --compare patch,lama")
    for name in names:
        backends.module("fill", name)
    pictures = _chosen(view, limit or PICTURES, only)
    found = []
    for one in _compared(view, names, pictures):
        found.append(one)
        listener(Notice(f"{one.picture} compared, {len(found)} of {len(pictures)}"))
    if not found:
        raise UserError(
            "In none of the chosen pictures is there a hole to fill.", where="--compare", cure="Raise --limit."
        )
    from bglora.stages.comparison_sheet import write_comparison

    path = view.root / SHEET
    write_comparison(path, found, names)
    rated = [one.rated() for one in found]
    return Comparison(path, [one.picture for one in found], rated, engines.routing_table(rated))


def _chosen(view: View, limit: int, only: str | None) -> list[str]:
    """Pictures in which somebody stands, evenly spread over the shots."""
    from bglora.engine.view import spread

    names = [
        row.picture
        for row in view.rows("segment")
        if row.status == "made" and row.record.get("object", 0) + row.record.get("effect", 0) > engines.SMALLEST_RATED
    ]
    if only is not None:
        names = [
            name
            for name in names
            if any(fnmatchcase(part, one) for part in (name, name.rpartition("/")[0]) for one in only.split(","))
        ]
    if not names:
        raise UserError(
            "There is no picture with a character in it.",
            where=f"--only {only}" if only is not None else str(view.root / "segmented" / "masks"),
            cure="Choose other pictures with --only." if only is not None else "Run: bglora segment",
        )
    return sorted(spread(names, limit))


def _compared(view: View, names: Sequence[str], pictures: Sequence[str]) -> Iterator[Compared]:
    wanted: dict[str, list[int]] = {}
    for picture in pictures:
        shot, _, number = picture.rpartition("/")
        wanted.setdefault(shot, []).append(int(number))
    cache: dict[str, Any] = {}
    for item in Inpaint().items(view):
        if item.name in wanted:
            yield from _of_shot(view, item, names, wanted[item.name], cache)


def _of_shot(
    view: View, item: Item, names: Sequence[str], numbers: Sequence[int], cache: dict[str, Any]
) -> Iterator[Compared]:
    from bglora.engine.tools import ItemTools, seed_of
    from bglora.stages.sampled import read_groups

    kept = [int(picture.rpartition("/")[2]) for picture in item.pictures]
    rule = {key.partition(".")[2]: value for key, value in item.settings.items()}
    seed = seed_of(view.settings.project.name, "inpaint", item.name)
    with TemporaryDirectory() as aside:
        tools = ItemTools(view.root, Path(aside), view.settings, seed, item.name, lambda *_: None, lambda: False, cache)
        chooser = engines.Chooser(rule, tools)
        for group in read_groups(view.root, item.name, kept):
            yield from _of_group(chooser, item, names, sorted(group.kept & set(numbers)), group)


def _of_group(
    chooser: engines.Chooser, item: Item, names: Sequence[str], numbers: Sequence[int], group: Group
) -> Iterator[Compared]:
    from bglora.stages.shotframes import read_frames
    from bglora.vision.plates import ShotPlates

    if not numbers:
        return
    frames = read_frames(chooser.tools.root, item.hints["source"], item.name, group.numbers, group.kept)
    group = group.only(frames)
    pictures = [frames[n] for n in group.numbers]
    plates = ShotPlates(pictures, group.numbers, group.masks, group.camera, group.gains, group.told)
    for k, number in enumerate(group.numbers):
        if number not in numbers:
            continue
        plate, hole = plates.plate(k, chooser.rule["recover"])
        recovered = plate.provenance == RECOVERED
        if max(hole.mean(), recovered.mean()) >= engines.SMALLEST_RATED:
            yield _trial(chooser, names, f"{item.name}/{number:06d}", pictures[k], plate.picture, hole, recovered)


def _trial(
    chooser: engines.Chooser, names: Sequence[str], name: str, frame: np.ndarray, plate: np.ndarray, hole: np.ndarray,
    recovered: np.ndarray,
) -> Compared:  # fmt: skip
    from functools import partial

    import numpy as np

    from bglora.stages.comparison_sheet import outlined, small
    from bglora.vision.rating import HIDDEN, rate_fill, scores_of

    left = hole.mean() >= engines.SMALLEST_RATED
    filled: dict[str, np.ndarray] = {}
    scores: dict[str, FillScores | None] = {}
    seed = chooser.tools.seed % 2**31
    missing = hole if left else hole | recovered
    blind = np.where(missing[..., None], np.uint8(HIDDEN), plate)
    for engine in names:
        guess = chooser.run(engine, seed, blind, missing)
        filled[engine] = small(guess)
        if left:
            scores[engine] = rate_fill(plate, hole, partial(chooser.run, engine, seed), recovered)
        else:
            scores[engine] = scores_of(guess, plate, recovered, missing)
    share, truth = float(missing.mean()), None if left else small(plate)
    return Compared(name, share, outlined(small(frame), missing), truth, filled, scores)
