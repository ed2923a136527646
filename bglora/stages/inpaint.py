"""inpaint: plates. Recover what other frames show, fill the rest by a guess, check both, say which pixel is which.

One item a shot. Masks are read from segmented/masks, so that a mask that a person edited is honored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from bglora import backends
from bglora.engine.stage import Item, Outcome, Row, Stage, Tools, View

if TYPE_CHECKING:
    import numpy as np

    from bglora.stages.sampled import Group
    from bglora.vision.filling import FillScores
    from bglora.vision.plates import Plate

MASK_HOMES = ("segmented/masks/", "segmented/sampled/")
PALETTE = ((24, 24, 27), (34, 160, 107), (240, 160, 32), (214, 48, 49))
"""Colors of provenance: original, recovered, guessed, not trusted."""
SMALLEST_RATED = 0.002
"""Share of the frame from which a guess is rated at all."""
STILL_MOVING = 0.004
"""Share of a plate that may differ from the shot's other plates."""


class Inpaint(Stage):
    """Makes the plates of every shot."""

    name = "inpaint"
    home = "plates"
    records = "plates/plates.jsonl"
    reads = ("ingest", "segment")

    def items(self, view: View) -> Iterable[Item]:
        """One item a shot that has masks."""
        settings = view.settings.inpaint
        identity = backends.identity("fill", settings.engine, settings)
        used = {f"inpaint.{key}": getattr(settings, key) for key in type(settings).model_fields}
        shots: dict[str, list[Row]] = {}
        for row in view.rows("segment"):
            if row.status == "made":
                shots.setdefault(row.item, []).append(row)
        source_of = {row.picture: row.item for row in view.rows("ingest")}
        for shot, rows in shots.items():
            source = source_of[rows[0].picture]
            pictures = tuple(row.picture for row in rows)
            masks = [path for row in rows for path in row.outputs if path.startswith(MASK_HOMES)]
            keeps = sorted(picture for picture in pictures if view.decisions.keeps(picture))
            yield Item(
                name=shot,
                pictures=pictures,
                files=(*(f"frames/{picture}.png" for picture in pictures), *masks),
                settings=used,
                decisions={"keep": keeps} if keeps else {},
                payload={"digest": view.item_record("ingest", source).get("digest", ""), **_buckets(view.settings)},
                backend=identity,
                hints={"source": view.item_record("ingest", source)},
            )

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        """Plates of one shot, group by group as they were segmented."""
        from bglora.stages.sampled import read_groups

        job = _Shot(item, tools)
        groups = read_groups(tools.root, item.name, job.kept)
        for place, group in enumerate(groups):
            yield from job.group(group, place, len(groups))


class _Shot:
    """Makes the plates of one shot."""

    def __init__(self, item: Item, tools: Tools) -> None:
        self.item, self.tools, self.shot = item, tools, item.name
        self.rule = {key.split(".", 1)[1]: value for key, value in item.settings.items()}
        self.kept = [int(picture.rsplit("/", 1)[1]) for picture in item.pictures]
        self.keep = set(item.decisions.get("keep", ()))
        self.engine = tools.once(f"fill {self.rule['engine']}", partial(_load, self.rule))

    def group(self, group: Group, place: int, count: int) -> Iterator[Outcome]:
        """Plates of the kept frames of one group."""
        from bglora.stages.shotframes import read_frames
        from bglora.vision.audit import audit
        from bglora.vision.plates import ShotPlates

        frames = read_frames(self.tools.root, self.item.hints["source"], self.shot, group.numbers, group.kept)
        group = group.only(frames)
        plates = ShotPlates([frames[n] for n in group.numbers], group.numbers, group.masks, group.camera, group.gains)
        done: list[_Made] = []
        wanted = [k for k, number in enumerate(group.numbers) if number in group.kept]
        if not wanted:
            return
        for step, k in enumerate(wanted):
            plate, hole = plates.plate(k, self.rule["recover"])
            done.append(_Made(k, plate, hole))
            self.tools.progress(place + 0.8 * (step + 1) / len(wanted), count, f"{len(self.kept)} frames")
        scores, tries, seed = self._rate(done)
        self._fill(done, group, seed)
        part = group.part(wanted)
        pictures = [made.plate.picture for made in done]
        remains = audit(pictures, part.camera, part.gains) if self.rule["audit"] else [0.0] * len(done)
        trusted = []
        for k, (made, moving) in enumerate(zip(done, remains, strict=True)):
            outcome = self._outcome(made, group.numbers[made.place], scores, tries, seed, moving)
            trusted += [k] if outcome.status == "made" else []
            yield outcome
        if self.rule["wide"] and place == 0 and trusted:
            yield from self._wide(part.part(trusted), [done[k].plate for k in trusted])
        self.tools.progress(place + 1, count)

    def _wide(self, part: Group, plates: list[Plate]) -> Iterator[Outcome]:
        from bglora.stages.wideplates import wide_outcomes

        buckets = (self.item.payload["buckets"][0], self.item.payload["buckets"][1])
        yield from wide_outcomes(
            self.shot, part.numbers, plates, part.camera, part.gains, self.rule, buckets, self.tools
        )

    def _fill(self, done: list[_Made], group: Group, seed: int) -> None:
        from bglora.vision.filling import ShotFill

        shared = ShotFill(group.camera, group.gains)
        for made in done:
            if made.hole.any():
                picture = shared.apply(made.place, made.plate.picture, made.hole, partial(self._engine_fill, seed))
                made.plate = replace(made.plate, picture=picture)

    def _engine_fill(self, seed: int, picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
        filled: np.ndarray = self.engine.fill(picture, hole, seed=seed)
        return filled

    def _rate(self, done: list[_Made]) -> tuple[FillScores | None, int, int]:
        """Rates the engine on withheld pixels of the frame with the largest hole; the best of some tries."""
        from bglora.vision.filling import rate_fill

        seed = self.tools.seed % 2**31
        worst = max(done, key=lambda made: int(made.hole.sum()))
        if worst.hole.mean() < SMALLEST_RATED:
            return None, 1, seed
        best: FillScores | None = None
        best_seed = seed
        for attempt in range(self.rule["tries"]):
            scores = rate_fill(worst.plate.picture, worst.hole, partial(self._engine_fill, seed + attempt))
            if scores is None:
                return None, attempt + 1, seed
            if best is None or scores.hole_psnr_db > best.hole_psnr_db:
                best, best_seed = scores, seed + attempt
            if self._good(scores):
                return scores, attempt + 1, seed + attempt
        return best, self.rule["tries"], best_seed

    def _good(self, scores: FillScores) -> bool:
        return scores.plate_psnr_db >= self.rule["psnr_db"] and scores.plate_ssim >= self.rule["ssim"]

    def _outcome(
        self, made: _Made, number: int, scores: FillScores | None, tries: int, seed: int, moving: float
    ) -> Outcome:
        from bglora.film.png import write_png

        name = f"{self.shot}/{number:06d}"
        provenance, plate = made.plate.provenance, made.plate
        guessed = made.hole.any()
        record: dict[str, Any] = {
            "engine": self.rule["engine"] if guessed else "recover" if (provenance > 0).any() else "none",
            "prompt": "",
            "seed": seed if guessed else 0,
            "hole": _share(provenance > 0),
            "recovered": _share(provenance == 1),
            "guessed": _share(provenance == 2),
            "untrusted": _share(provenance == 3),
            "scores": {"moving": round(moving, 5)},
            "tries": tries if guessed else 0,
            "natural": not (provenance > 0).any(),
        }
        if plate.recovered_psnr_db is not None:
            record["scores"]["recovered_psnr_db"] = round(plate.recovered_psnr_db, 2)
        if guessed and scores is not None:
            record["scores"] |= {key: round(value, 4) for key, value in asdict(scores).items()}
        reason = "" if name in self.keep else self._why_not(record, scores if guessed else None)
        if reason:
            return Outcome(name, "dropped", reason, record=record)
        outputs = (f"plates/{name}.png", f"provenance/{name}.png")
        write_png(self.tools.scratch / outputs[0], plate.picture)
        write_png(self.tools.scratch / outputs[1], provenance, palette=PALETTE)
        return Outcome(name, outputs=outputs, record=record)

    def _why_not(self, record: Mapping[str, Any], scores: FillScores | None) -> str:
        """Why a plate is not to be trusted; empty if it is."""
        guessed, measured = record["guessed"] + record["untrusted"], record["scores"]
        if guessed > self.rule["max_guessed"]:
            return (
                f"too much would be a guess: {guessed:.0%} of the frame, at most {self.rule['max_guessed']:.0%} may be"
            )
        real = measured.get("recovered_psnr_db")
        if record["recovered"] > 0 and real is not None and real < self.rule["recovered_psnr_db"]:
            least = self.rule["recovered_psnr_db"]
            return f"what other frames show doesn't fit this one: {real:.1f} dB where it is checked, {least:.1f} needed"
        if scores is not None and not self._good(scores) and guessed >= SMALLEST_RATED:
            return (
                f"the guess is too poor: {scores.plate_psnr_db:.1f} dB and SSIM {scores.plate_ssim:.2f} "
                "where it is checked, "
                f"{self.rule['psnr_db']:.1f} dB and {self.rule['ssim']:.2f} needed"
            )
        if measured["moving"] > STILL_MOVING:
            return f"a character may be left in it: {measured['moving']:.1%} of the plate still moves"
        return ""


@dataclass
class _Made:
    """A plate on its way: index in the group, the plate, the hole that recovery left."""

    place: int
    plate: Plate
    hole: np.ndarray


def _buckets(settings: Any) -> dict[str, Any]:
    """What wide plates are cut to: resolution and step of the training buckets."""
    return {"buckets": [settings.train.resolution, settings.train.bucket_step]} if settings.inpaint.wide else {}


def _share(where: np.ndarray) -> float:
    return round(float(where.mean()), 5)


def _load(rule: Mapping[str, Any]) -> Any:
    from bglora.settings.plates import InpaintSettings

    return backends.load("fill", rule["engine"], InpaintSettings(**rule))
