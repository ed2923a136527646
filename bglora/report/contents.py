"""What the page tells, read from the stages' rows: films, shots with their samples, places. No picture is opened."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bglora.engine.stage import Row, View
from bglora.settings.lora import ALL_SCENES

SAMPLES_OF_THE_PAGE = 320
"""Frames that the page shows in all; a long film shows fewer of each shot."""
SAMPLES_OF_A_SHOT = 4


@dataclass(frozen=True)
class Sample:
    """One frame on its way to a plate. Rows of stages that did not come to it yet are None."""

    picture: str
    frame: Row
    mask: Row | None
    plate: Row | None

    @property
    def number(self) -> str:
        return self.picture.rpartition("/")[2].lstrip("0") or "0"

    @property
    def seconds(self) -> float | None:
        time = self.frame.record.get("time")
        return float(time) if isinstance(time, int | float) else None


@dataclass
class Shot:
    name: str
    source: str
    first: int | None = None
    last: int | None = None
    left_out: Sequence[Mapping[str, Any]] = ()
    camera: str = ""
    unknown: str = ""
    kept: int = 0
    plates: int = 0
    shares: dict[str, float] = field(default_factory=dict)
    """Mean shares of the plates: `hole`, `recovered`, `guessed`, `untrusted`."""
    rows: list[Row] = field(default_factory=list)
    """Rows of `inpaint` with a plate."""
    dropped: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)


@dataclass
class Place:
    """A scene with everything that was made of it."""

    id: str
    title: str
    plates: list[Row] = field(default_factory=list)
    """Rows of `inpaint`, in the film's order."""
    shots: list[str] = field(default_factory=list)
    dataset: list[Row] = field(default_factory=list)
    dataset_remark: Mapping[str, Any] = field(default_factory=dict)
    lora: Row | None = None
    grid: Row | None = None
    compositions: list[Row] = field(default_factory=list)

    @property
    def trigger(self) -> str:
        return str(self.dataset_remark.get("trigger") or "")

    @property
    def captions(self) -> Counter[str]:
        return Counter(str(row.record.get("caption", "")) for row in self.dataset if row.status == "made")


@dataclass(frozen=True)
class Contents:
    shots: list[Shot]
    """All shots, those that the page has no room for without samples."""
    places: list[Place]
    noise: list[Row]
    notice: str
    troubles: list[tuple[str, Row]]
    """Failed rows with the stage's name."""
    loras: int
    """LoRAs that were made, of places and of characters."""


def read_contents(view: View) -> Contents:
    """Everything the page tells about pictures."""
    rows = {name: view.rows(name) for name in ("ingest", "segment", "inpaint", "cluster", "caption")}
    late = {name: view.rows(name) for name in ("train", "test", "compose")}
    plates = {row.picture: row for row in rows["inpaint"]}
    sorting = view.item_record("cluster", "all")
    places = _places(view, sorting, plates, rows["caption"], late)
    noise = [row for row in rows["cluster"] if row.status == "dropped"]
    troubles = [(name, row) for name, found in (rows | late).items() for row in found if row.status == "failed"]
    shots = _shots(view, rows["ingest"], {row.picture: row for row in rows["segment"]}, plates)
    loras = sum(row.status == "made" for row in late["train"])
    return Contents(shots, places, noise, str(sorting.get("notice") or ""), troubles, loras)


def _shots(view: View, frames: list[Row], masks: dict[str, Row], plates: dict[str, Row]) -> list[Shot]:
    known: dict[str, Shot] = {}
    for source in dict.fromkeys(row.item for row in frames):
        for told in view.item_record("ingest", source).get("shots", ()):
            known[told["name"]] = Shot(
                told["name"], source, told.get("first"), told.get("last"), tuple(told.get("left_out", ()))
            )
    by_shot: dict[str, list[Row]] = defaultdict(list)
    for row in frames:
        if row.status == "made":
            by_shot[row.picture.rpartition("/")[0]].append(row)
    shots = [
        _shot(view, known.get(name, Shot(name, kept[0].item)), kept, masks, plates) for name, kept in by_shot.items()
    ]
    _trim(shots)
    return shots


def _shot(view: View, shot: Shot, kept: list[Row], masks: dict[str, Row], plates: dict[str, Row]) -> Shot:
    remark = view.item_record("segment", shot.name)
    shot.camera, shot.unknown = str(remark.get("camera") or ""), str(remark.get("unknown") or "")
    shot.kept = len(kept)
    samples = [Sample(row.picture, row, masks.get(row.picture), plates.get(row.picture)) for row in kept]
    done = [sample.plate for sample in samples if sample.plate is not None]
    made = [row for row in done if row.status == "made"]
    shot.plates, shot.rows = len(made), made
    shot.dropped = Counter(row.reason for row in done if row.status == "dropped")
    for key in ("hole", "recovered", "guessed", "untrusted"):
        shot.shares[key] = sum(float(row.record.get(key) or 0) for row in made) / len(made) if made else 0.0
    shot.samples = choose_samples(samples, SAMPLES_OF_A_SHOT)
    return shot


def choose_samples(samples: Sequence[Sample], limit: int) -> list[Sample]:
    """At most `limit` samples spread over the shot: of each stretch the one with the largest character in it."""
    parts = min(limit, len(samples))
    edges = [round(index * len(samples) / parts) for index in range(parts + 1)] if parts else [0]
    return [max(samples[start:end], key=_weight) for start, end in zip(edges, edges[1:], strict=False) if end > start]


def _weight(sample: Sample) -> float:
    shown = sample.plate or sample.mask
    if shown is None:
        return 0.0
    return float(shown.record.get("hole") or 0) + float(shown.record.get("object") or 0)


def _trim(shots: list[Shot]) -> None:
    """Thins out samples so that the page stays within its budget."""
    if len(shots) * SAMPLES_OF_A_SHOT <= SAMPLES_OF_THE_PAGE:
        return
    each = max(1, SAMPLES_OF_THE_PAGE // len(shots))
    stride = max(1, -(-len(shots) // SAMPLES_OF_THE_PAGE))
    for index, shot in enumerate(shots):
        shot.samples = choose_samples(shot.samples, each) if index % stride == 0 else []


def _places(
    view: View,
    sorting: Mapping[str, Any],
    plates: dict[str, Row],
    captions: list[Row],
    late: dict[str, list[Row]],
) -> list[Place]:
    titles = view.decisions.renames()
    datasets: dict[str, list[Row]] = defaultdict(list)
    for row in captions:
        datasets[row.item].append(row)
    loras = {row.item: row for row in late["train"]}
    grids = {row.item: row for row in late["test"]}
    pictures: dict[str, list[Row]] = defaultdict(list)
    for row in late["compose"]:
        pictures[row.item].append(row)
    places = []
    for scene in sorting.get("scenes", ()):
        name = scene["id"]
        members = [plates[picture] for picture in scene.get("plates", ()) if picture in plates]
        places.append(
            Place(
                id=name,
                title=str(titles.get(name) or scene.get("title") or name),
                plates=members,
                shots=list(dict.fromkeys(row.picture.rpartition("/")[0] for row in members)),
                dataset=datasets.get(name, []),
                dataset_remark=view.item_record("caption", name),
                lora=loras.get(name) or loras.get(ALL_SCENES),
                grid=grids.get(name),
                compositions=[row for row in pictures.get(name, ()) if row.status == "made"],
            )
        )
    return places
