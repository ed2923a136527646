"""Characters that a detector finds on plates: masked where they are, so that the plates are made again without them.

A find goes back to the masks backend with its box as a prompt (to sam2 where the project's own can't be told); what
that masks is taken out like any character, here and from what other plates recover.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bglora import backends
from bglora.backends.resident import KEY, Resident
from bglora.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from bglora.engine.stage import Tools
    from bglora.settings import Settings
    from bglora.vision.following import Found

TURNS = 2
"""How often plates are made again."""
ROOM = 0.1
"""Share of a box's sides by which what is masked may reach beyond it."""
MARGIN = 2
"""Pixels by which a mask grows: a detector's finds have soft edges."""

KEYS = ("backend", "targets", "detector", "grounding", "min_score", "sam2", "sam3")
"""Settings of [segment] that the looking depends on."""


def settings_of(settings: Settings) -> dict[str, Any]:
    """What an item's payload tells of the tables, if plates are to be looked over; else nothing."""
    if not settings.inpaint.detector:
        return {}
    return {"segment": {key: getattr(settings.segment, key) for key in KEYS}}


def identity(settings: Settings) -> str:
    """Detector and masks backend with their weights, as a part of an item's backend; empty if none looks."""
    if not settings.inpaint.detector:
        return ""
    named = (backends.identity(role, name, settings.segment) for role, name in watchers_of(settings))
    return "".join(f"+{one}" for one in named)


def watchers_of(settings: Settings) -> list[tuple[str, str]]:
    """Role and name of the backends that look over plates and mask what is found; empty if none does."""
    if not settings.inpaint.detector:
        return []
    return [("detect", settings.segment.detector), ("masks", _masks(settings.segment))]


def _masks(table: Any) -> str:
    """The backend that masks what is found: the project's own, if it can be told."""
    return "sam2" if table.backend in ("motion", "layers") else str(table.backend)


@dataclass
class Watch:
    """Looks over the plates of one shot.

    Args:
        table: the part of the table [segment] that `settings_of` gave.
    """

    table: Mapping[str, Any]
    tools: Tools
    finds: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def look(self, number: int, plate: np.ndarray, turn: int) -> np.ndarray | None:
        """The mask, bool (H, W), of all who are found on a plate; None if nobody is.

        Args:
            number: frame number. plate: uint8 (H, W, 3). turn: how often it was made again.
        """
        (found,) = self._detector().find([plate], self.table["targets"])
        self.finds.setdefault(number, []).extend(_told(one, turn) for one in found)
        return self._masked(plate, found) if found else None

    def record(self, number: int) -> dict[str, Any]:
        """What plates.jsonl tells of a plate's finds: turn, box (left, top, right, bottom) and score of each."""
        finds = self.finds.get(number, [])
        return {"detected": finds} if finds else {}

    def words(self, number: int) -> str:
        """Why a plate can't be trusted on which somebody is found to the last; empty for others."""
        last = any(find["turn"] == TURNS for find in self.finds.get(number, []))
        words = f"the detector still sees a character after {TURNS} more tries (inpaint.detector, segment.min_score)"
        return words if last else ""

    def _masked(self, picture: np.ndarray, found: Sequence[Found]) -> np.ndarray:
        """What is to go: what is masked in each box, at most a little beyond it; the box, where nothing is."""
        import numpy as np

        from bglora.vision.arrays import grow

        height, width = picture.shape[:2]
        gone = np.zeros((height, width), bool)
        segmenter = self._segmenter()
        for one in found:
            left, top, right, bottom = one.box
            dx, dy = ROOM * (right - left), ROOM * (bottom - top)
            near, inside = np.zeros((2, height, width), bool)
            near[max(0, int(top - dy)) : int(bottom + dy) + 1, max(0, int(left - dx)) : int(right + dx) + 1] = True
            inside[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = True
            mask = segmenter.at(picture, [one.box]) & near
            gone |= mask if mask.any() else inside
        return grow(gone, MARGIN)

    def _detector(self) -> Any:
        return self._resident().get("detect", self.table["detector"], self._settings())

    def _segmenter(self) -> Any:
        # The words are the detector's business: without them no second one is loaded.
        settings = self._settings().model_copy(update={"targets": []})
        name = _masks(settings)
        found = self._resident().get("masks", name, settings)
        if not hasattr(found, "at"):
            raise UserError(
                f"The masks backend {name} can't be told whom to mask.",
                where="inpaint.detector = true",
                cure="bglora set segment.backend sam2, or bglora set inpaint.detector false",
            )
        return found

    def _resident(self) -> Resident:
        """The one that the engines are in, too: who looks and who fills fit into memory together, or take turns."""
        found: Resident = self.tools.once(KEY, Resident)
        return found

    def _settings(self) -> Any:
        from bglora.settings.plates import SegmentSettings

        return SegmentSettings(**self.table)


def _told(found: Found, turn: int) -> dict[str, Any]:
    return {"turn": turn, "box": [round(v) for v in found.box], "score": round(found.score, 3)}
