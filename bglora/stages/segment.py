"""segment: masks of characters and their effects, cut-outs, and what recovery needs to know about a shot.

One item a shot. Where characters can't be told from background, frames are dropped; those that a person said to keep
get an empty mask there: nobody is in them, the frame is the plate.

Beside the masks of the kept frames it writes segmented/sampled/<shot>.npz for `inpaint`: the frames that were looked at
together and whose masks are known, their masks, camera poses and exposure. Arrays of it, for group g = 0, 1, ...:

    numbers_g   int64 (N,)          frame numbers, ascending
    poses_g     float64 (N, 3, 3)   pixels of a frame to pixels of the group's reference frame
    gains_g     float64 (N, 3)      exposure relative to it, RGB
    camera_g    str                 still, pan, parallax, unknown
    reference_g int                 index of the reference frame
    others_g    int64 (M,)          frames that are not kept
    masks_g     uint8 (M, B)        their removal masks, packed bits, B = ceil(H * W / 8)
    size        int64 (2,)          height, width
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bglora import backends
from bglora.engine.stage import Item, Outcome, Row, Stage, Tools, View
from bglora.stages.followed import Who, followed, pointed_out, settings_of
from bglora.stages.layermasks import LayerHoles
from bglora.stages.revisits import Sketchbook
from bglora.stages.shotframes import source_of_shot

if TYPE_CHECKING:
    import numpy as np

    from bglora.backends.masks import ShotMasks
    from bglora.vision.tracks import Thing

KEPT = "kept by you"


class Segment(Stage):
    """Finds the characters of every shot."""

    name = "segment"
    counts = "masks"
    version = 2
    home = "segmented"
    records = "segmented.jsonl"
    reads = ("ingest",)

    def items(self, view: View) -> Iterable[Item]:
        """One item a shot that has kept frames."""
        settings = view.settings.segment
        identity = {name: backends.identity("masks", name, settings) for name in {settings.backend, "layers"}}
        shots: dict[str, dict[str, list[Row]]] = {}
        for row in view.rows("ingest"):
            if row.status == "made":
                shots.setdefault(row.item, {}).setdefault(row.record["shot"], []).append(row)
        for source, of_source in shots.items():
            remark = view.item_record("ingest", source)
            spans = {shot["name"]: shot for shot in remark["shots"]}
            layers = _Layers(remark)
            for shot, rows in of_source.items():
                payload, files = _what(remark, layers, spans[shot], rows)
                backend = "layers" if "layers" in payload else settings.backend
                pictures = tuple(row.picture for row in rows)
                keeps = sorted(picture for picture in pictures if view.decisions.keeps(picture))
                prompts = view.decisions.prompts(shot)
                yield Item(
                    name=shot,
                    pictures=pictures,
                    files=files,
                    decisions={**({"keep": keeps} if keeps else {}), **({"prompts": prompts} if prompts else {})},
                    settings={**settings_of(backend, settings), "segment.backend": backend},
                    payload=payload,
                    backend=identity[backend],
                    hints={"source": source_of_shot(remark, layers.of(spans[shot]["first"], spans[shot]["last"]))},
                )

    def surroundings(self, view: View) -> str:
        """The masks backend with its weights: other ones may lie at the same place."""
        return backends.identity("masks", view.settings.segment.backend, view.settings.segment)

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        """Masks of one shot: group by group, then who is who over all of them."""
        from bglora.stages.shotframes import groups

        job = _Shot(item, tools)
        pointed = set(pointed_out(item)) & set(job.others)
        plan = groups(sorted({*item.payload["kept"], *pointed}), job.others, int(item.settings["segment.samples"]))
        job.follow(sorted(number for numbers in plan for number in numbers), len(plan))
        for k, numbers in enumerate(plan):
            job.group(numbers, k, len(plan))
        tools.remark({**job.remark, "views": job.sketches.views()})
        return job.outcomes()


class _Layers:
    """The layers of a source, to be asked for those of a shot."""

    def __init__(self, remark: Mapping[str, Any]) -> None:
        layers = remark.get("layers") or {"root": "", "frames": []}
        self.root, self.entries = layers["root"], layers["frames"]
        self.numbers = [entry["frame"] for entry in self.entries]

    def of(self, first: int, last: int) -> list[Mapping[str, Any]]:
        """The entries of frames `first` to `last`."""
        return list(self.entries[bisect_left(self.numbers, first) : bisect_right(self.numbers, last)])


def _what(
    remark: Mapping[str, Any], layers: _Layers, span: Mapping[str, Any], rows: Sequence[Row]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Payload and files of a shot's item. Layers are used where the shot has any."""
    payload: dict[str, Any] = {
        "kept": sorted(row.record["frame"] for row in rows),
        "first": span["first"],
        "last": span["last"],
        "left_out": [{"first": part["first"], "last": part["last"]} for part in span["left_out"]],
        "digest": remark.get("digest", ""),
    }
    files = [path for row in rows for path in row.outputs]
    entries = layers.of(span["first"], span["last"])
    if entries:
        payload["layers"] = [entry["frame"] for entry in entries]
        files += [f"{layers.root}/{e[part]}" for e in entries for part in ("background", "mask") if e[part]]
    return payload, tuple(files)


@dataclass
class _Found:
    """What is kept of a frame until tracks are known: record and outputs so far, the objects, their cut-outs.

    `reason` says why it is dropped, `remark` what else is to be told about it. `numbers`: the objects' tracks, where
    the backend knows who is who.
    """

    record: dict[str, Any]
    outputs: list[str]
    things: list[Thing]
    cutouts: dict[int, str]
    reason: str = ""
    remark: str = ""
    numbers: list[int] | None = None


class _Shot:
    """Segments one shot."""

    def __init__(self, item: Item, tools: Tools) -> None:
        from bglora.stages.shotframes import usable

        self.item, self.tools, self.shot = item, tools, item.name
        self.remark: dict[str, Any] = {}
        self.sampled: dict[str, Any] = {}
        self.sketches = Sketchbook()
        self.found: dict[int, _Found] = {}
        self.diagonal = 1.0
        self.kept = set(item.payload["kept"])
        self.keep = {int(picture.rsplit("/", 1)[1]) for picture in item.decisions.get("keep", ())}
        self.others = usable(item.payload["first"], item.payload["last"], item.payload["left_out"])
        self.layers: dict[int, Any] = {}
        if "layers" in item.payload:
            from bglora.film.layers import entries

            own = set(item.payload["layers"])
            found = entries(tools.root, item.hints["source"])
            self.layers = {number: entry for number, entry in found.items() if number in own}
            self.others = [number for number in self.others if number in self.layers]
            self.holes = LayerHoles(self.layers, item.hints["source"]["kind"] != "layers")
        self.backend = tools.once(f"masks {item.settings['segment.backend']}", partial(_load, item))
        self.who: Who | None = None
        self.done = 0.0

    def follow(self, numbers: Sequence[int], count: int) -> None:
        """Who is who over all frames that are looked at; half of the work, if the backend knows that at all."""
        from bglora.stages.shotframes import ShotFrames

        frames = ShotFrames(self.tools.root, self.item.hints["source"], self.shot, numbers, self.kept)
        self.who = followed(
            self.backend,
            self.item,
            numbers,
            frames,
            lambda share: self.tools.progress(share * count, 2 * count, f"{len(self.kept)} frames"),
        )
        self.done = float(count) if self.who is not None else 0.0

    def group(self, numbers: Sequence[int], place: int, count: int) -> None:
        """Masks of the frames that are looked at together; writes what concerns the kept ones."""
        from bglora.stages.shotframes import read_frames

        frames = read_frames(self.tools.root, self.item.hints["source"], self.shot, numbers, self.kept)
        if self.layers:
            frames = {n: picture for n, picture in frames.items() if n in self.layers}
        if not frames:
            return
        have = sorted(frames)
        pictures = [frames[n] for n in have]
        self.diagonal = float((pictures[0].shape[0] ** 2 + pictures[0].shape[1] ** 2) ** 0.5)
        imported = [self._imported(n, frames[n]) for n in have]

        def progress(share: float) -> None:
            self.tools.progress(self.done + place + share, self.done + count, f"{len(self.kept)} frames")

        masks = self.backend.masks(pictures, imported, progress)
        if place == 0:
            camera = masks.camera
            self.remark = {
                "camera": camera.kind,
                "unknown": masks.unknown,
                "shift_px": round(camera.shift_px, 2),
                "outlying": round(camera.outlying, 3),
            }
        for k, number in enumerate(have):
            if number in self.kept:
                self.found[number] = self._frame(number, pictures[k], masks, k)
        trusted = [k for k, number in enumerate(have) if not masks.unknown or number in self.keep & self.kept]
        if trusted:
            self._sample(place, have, masks, trusted)

    def _imported(self, number: int, picture: np.ndarray) -> np.ndarray | None:
        if self.who is not None:
            return self.who.mask(number)
        return self.holes.mask(number, picture) if number in self.layers else None

    def _grown(self, mask: np.ndarray) -> np.ndarray:
        """The mask with a margin of `segment.dilate` pixels, marked as effect."""
        import numpy as np

        from bglora.vision.arrays import grow

        return np.where((mask == 0) & grow(mask > 0, int(self.item.settings["segment.dilate"])), np.uint8(128), mask)

    def _mask(self, masks: ShotMasks, k: int) -> np.ndarray:
        """The mask of frame `k`, grown. Empty in a shot that can't be trusted: a person said that it is a plate."""
        return masks.masks[k] * 0 if masks.unknown else self._grown(masks.masks[k])

    def _frame(self, number: int, picture: np.ndarray, masks: ShotMasks, k: int) -> _Found:
        if masks.unknown and number not in self.keep:
            return _Found({}, [], [], {}, masks.unknown)
        import numpy as np

        from bglora.film.png import write_png
        from bglora.vision.tracks import things

        mask = self._mask(masks, k)
        self.sketches.add(number, picture, mask > 0)
        objects = mask >= 192
        share = {"object": round(float(objects.mean()), 5), "effect": round(float((mask == 128).mean()), 5)}
        found = _Found(share, [self._path("masks", number)], [], {}, remark=KEPT if masks.unknown else "")
        write_png(self.tools.scratch / found.outputs[0], mask)
        if self.item.settings["segment.background"]:
            found.outputs.append(self._path("background", number))
            clear = np.where(mask > 0, 0, 255).astype(np.uint8)
            write_png(
                self.tools.scratch / found.outputs[-1], np.dstack([np.where(clear[..., None] > 0, picture, 0), clear])
            )
        if self.who is not None:
            found.things, labels, found.numbers = self.who.things(number, picture)
        else:
            found.things, labels = things(picture, objects)
        if self.item.settings["segment.cutouts"]:
            self._cut(found, number, picture, labels, masks.alphas[k])
        return found

    def _cut(
        self, found: _Found, number: int, picture: np.ndarray, labels: np.ndarray, alpha: np.ndarray | None
    ) -> None:
        """Writes the cut-outs of a frame that are large and sharp enough, under the number of the object."""
        from bglora.film.png import write_png
        from bglora.vision.cutouts import cut_out

        for k, thing in enumerate(found.things):
            least = self.item.settings["segment.alpha_threshold"]
            rgba = cut_out(picture, labels == k + 1, alpha, thing.box, alpha_threshold=least)
            if rgba is None:
                continue
            path = self._path("character", number).removesuffix(".png") + f"_part{k}.png"
            write_png(self.tools.scratch / path, rgba)
            found.cutouts[k] = path

    def _sample(self, place: int, numbers: Sequence[int], masks: ShotMasks, trusted: Sequence[int]) -> None:
        """Stores the group for `inpaint`: the frames at the places `trusted`, whose masks are known."""
        import numpy as np

        others = [k for k in trusted if numbers[k] not in self.kept]
        packed = [np.packbits(self._mask(masks, k) > 0) for k in others]
        rows = list(trusted)
        size = masks.masks[0].shape
        self.sampled |= {
            "size": np.array(size, np.int64),
            f"numbers_{place}": np.array([numbers[k] for k in rows], np.int64),
            f"poses_{place}": masks.camera.to_reference[rows],
            f"gains_{place}": masks.gains[rows],
            f"camera_{place}": np.array(masks.camera.kind),
            f"reference_{place}": np.array(min(masks.camera.reference, len(rows) - 1), np.int64),
            f"others_{place}": np.array([numbers[k] for k in others], np.int64),
            f"masks_{place}": np.stack(packed) if packed else np.zeros((0, -(-size[0] * size[1] // 8)), np.uint8),
        }

    def outcomes(self) -> Iterator[Outcome]:
        """One outcome a kept frame, objects numbered by track."""
        import numpy as np

        from bglora.vision.tracks import Tracker

        tracker = Tracker(self.diagonal)
        shared: list[str] = []
        if self.sampled:
            shared = [f"segmented/sampled/{self.shot}.npz"]
            (self.tools.scratch / shared[0]).parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(self.tools.scratch / shared[0], **self.sampled)
        for number in sorted(self.kept):
            name = f"{self.shot}/{number:06d}"
            found = self.found.get(number)
            if found is None:
                why = (
                    "no layer of an earlier segmentation belongs to it"
                    if self.layers and number not in self.layers
                    else ""
                )
                yield Outcome(name, "dropped", why or "its size is not that of the shot's other frames")
                continue
            if found.reason:
                yield Outcome(name, "dropped", found.reason)
                continue
            numbers = tracker.follow(found.things) if found.numbers is None else found.numbers
            found.record["tracks"] = sorted(set(numbers))
            for k, path in sorted(found.cutouts.items()):
                final = path.replace(f"_part{k}.png", f"_{numbers[k]}.png")
                (self.tools.scratch / path).replace(self.tools.scratch / final)
                found.outputs.append(final)
            yield Outcome(name, reason=found.remark, outputs=(*found.outputs, *shared), record=found.record)
            shared = []

    def _path(self, part: str, number: int) -> str:
        return f"segmented/{part}/{self.shot}/{number:06d}.png"


def _load(item: Item) -> Any:
    from bglora.settings.plates import SegmentSettings

    table = {key.split(".", 1)[1]: value for key, value in item.settings.items()}
    return backends.load("masks", table["backend"], SegmentSettings(**table))
