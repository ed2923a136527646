"""inpaint: plates. Recover what other frames show, fill the rest by a guess, check both, say which pixel is which.

One item a shot. Masks are read from segmented/masks, so that a mask that a person edited is honored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bglora.engine.stage import Item, Outcome, Row, Stage, Tools, View
from bglora.stages import engines, leaks
from bglora.stages.prompts import scenes_file, scenes_of_shots
from bglora.stages.revisits import Revisits, candidates, files_of
from bglora.stages.shelf import Shelf
from bglora.stages.shotframes import source_of_shot

if TYPE_CHECKING:
    import numpy as np

    from bglora.stages.engines import Choice
    from bglora.stages.sampled import Group
    from bglora.vision.audit import Leak

MASK_HOMES = ("segmented/masks/", "segmented/sampled/")
PALETTE = ((24, 24, 27), (34, 160, 107), (240, 160, 32), (214, 48, 49))
"""Colors of provenance: original, recovered, guessed, not trusted."""
RECOVERED = 1
ORIGINS = ("recovered", "guessed", "untrusted")
"""Names of provenance 1, 2, 3."""


class Inpaint(Stage):
    """Makes the plates of every shot."""

    name = "inpaint"
    counts = "plates"
    version = 5
    home = "plates"
    records = "plates/plates.jsonl"
    reads = ("ingest", "segment")

    def items(self, view: View) -> Iterable[Item]:
        """One item a shot that has masks."""
        settings = view.settings.inpaint
        identity = engines.identity(settings) + leaks.identity(view.settings)
        shots: dict[str, list[Row]] = {}
        for row in view.rows("segment"):
            if row.status == "made":
                shots.setdefault(row.item, []).append(row)
        elsewhere = candidates(view, view.rows("segment")) if settings.revisit and settings.recover else {}
        scenes, names = scenes_of_shots(view.root, settings), view.settings.caption.character_names
        source_of = {row.picture: row.item for row in view.rows("ingest")}
        frames = {row.picture for row in view.rows("segment")}
        wide: dict[str, list[str]] = {}
        for row in view.rows(self.name):
            if row.picture not in frames:
                wide.setdefault(row.item, []).append(row.picture)
        for shot, rows in shots.items():
            source = source_of[rows[0].picture]
            pictures = tuple(row.picture for row in rows)
            masks = [path for row in rows for path in row.outputs if path.startswith(MASK_HOMES)]
            keeps = sorted(name for name in {*pictures, *wide.get(shot, ())} if view.decisions.keeps(name))
            views = elsewhere.get(shot, {})
            rule = engines.rule_of(settings, shot, scenes.get(shot), names)
            payload = {
                "digest": view.item_record("ingest", source).get("digest", ""),
                **_buckets(view.settings),
                **leaks.settings_of(view.settings),
            }
            yield Item(
                name=shot,
                pictures=pictures,
                files=(*(f"frames/{picture}.png" for picture in pictures), *masks, *files_of(views)),
                settings={f"inpaint.{key}": value for key, value in rule.items()},
                decisions={"keep": keeps} if keeps else {},
                payload={**payload, "views": views} if views else payload,
                backend=identity,
                hints={"source": source_of_shot(view.item_record("ingest", source))},
            )

    def surroundings(self, view: View) -> str:
        """The engines with their weights, who looks over plates, and the scenes where a prompt speaks of them."""
        settings = view.settings
        return engines.identity(settings.inpaint) + leaks.identity(settings) + scenes_file(view.root, settings.inpaint)

    def shared_files(self, view: View) -> Mapping[str, bytes]:
        """plates/engines.json: which engine is best by the share missing, as far as this film was rated."""
        return {"plates/engines.json": engines.table_file(view.rows(self.name))}

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
        self.watch = leaks.Watch(item.payload["segment"], tools) if "segment" in item.payload else None
        self.has_wide = False

    def group(self, group: Group, place: int, count: int) -> Iterator[Outcome]:
        """Plates of the kept frames of one group. They wait on disk, so that memory holds the group's frames alone."""
        from bglora.stages.shotframes import read_frames

        frames = read_frames(self.tools.root, self.item.hints["source"], self.shot, group.numbers, group.kept)
        group = group.only(frames)
        wanted = [k for k, number in enumerate(group.numbers) if number in group.kept]
        if not wanted:
            return
        pictures = [frames[n] for n in group.numbers]
        made, shelf = self._made(group, pictures, wanted, (place, count))
        remains = self._audited(group.part(wanted), [pictures[k] for k in wanted], made, shelf)
        trusted = []
        for number, (one, leak) in enumerate(zip(made, remains, strict=True)):
            outcome = self._outcome(one, group.numbers[one.place], shelf[number], leak)
            trusted += [number] if outcome.status == "made" else []
            yield outcome
        if self.rule["wide"] and trusted and not self.has_wide:
            part = group.part([wanted[n] for n in trusted])
            chosen = [made[n] for n in trusted]
            finished = [
                self._finished(one, shelf[n], number)
                for one, n, number in zip(chosen, trusted, part.numbers, strict=True)
            ]
            yield from self._wide(part, finished, [one.provenance for one in chosen])
        shelf.clear()
        self.tools.progress(place + 1, count)

    def _made(
        self, group: Group, pictures: Sequence[np.ndarray], wanted: Sequence[int], step: tuple[int, int]
    ) -> tuple[list[_Made], Shelf]:
        """The plates of a group, their pictures on a shelf. While the detector finds somebody on one of them, he is
        taken out, too, and they are made again: what leaks into one plate may have come into others from there.
        """
        turn = 0
        while True:
            shelf = Shelf(self.tools.scratch / "waiting")
            made = self._recovered(group, pictures, wanted, shelf, step)
            self._revisited(made, group, shelf)
            self._fill(made, group, shelf)
            leaking = self._leaking(made, group, shelf, turn)
            if not leaking or turn == leaks.TURNS:
                return made, shelf
            group = group.without({made[k].place: mask for k, mask in leaking.items()})
            shelf.clear()
            turn += 1

    def _leaking(self, made: Sequence[_Made], group: Group, shelf: Shelf, turn: int) -> dict[int, np.ndarray]:
        """Places of plates on which the detector finds somebody, and his mask; those that a person keeps are left."""
        found: dict[int, np.ndarray] = {}
        for k, one in enumerate(made):
            number = group.numbers[one.place]
            if self.watch is None or f"{self.shot}/{number:06d}" in self.keep or not self._worth_filling(one, group):
                continue
            mask = self.watch.look(number, shelf[k], turn)
            if mask is not None:
                found[k] = mask
        return found

    def _wide(self, part: Group, pictures: Sequence[np.ndarray], provenance: Sequence[np.ndarray]) -> Iterator[Outcome]:
        from bglora.stages.wideplates import wide_outcomes

        buckets = (self.item.payload["buckets"][0], self.item.payload["buckets"][1])
        for outcome in wide_outcomes(self.shot, part, pictures, provenance, self.rule, buckets, self.keep, self.tools):
            self.has_wide = True  # groups are spread over the whole shot: another one would show the same again
            yield outcome

    def _recovered(
        self, group: Group, frames: Sequence[np.ndarray], wanted: Sequence[int], shelf: Shelf, step: tuple[int, int]
    ) -> list[_Made]:
        """What other frames show, taken from there; the pictures go to the shelf."""
        from bglora.vision.plates import ShotPlates

        plates = ShotPlates(frames, group.numbers, group.masks, group.camera, group.gains, group.told)
        made = []
        for done, k in enumerate(wanted):
            plate, hole = plates.plate(k, self.rule["recover"])
            shelf.append(plate.picture)
            made.append(_Made(k, plate.provenance, hole, plate.recovered_psnr_db))
            self.tools.progress(step[0] + 0.8 * (done + 1) / len(wanted), step[1], f"{len(self.kept)} frames")
        return made

    def _revisited(self, made: Sequence[_Made], group: Group, shelf: Shelf) -> None:
        """What no frame of the shot shows, from other shots of the same viewpoint."""
        still = group.camera.kind == "still"
        elsewhere = Revisits(self.tools.root, self.item.payload.get("views", {}), still)
        self._mend(elsewhere, dict(enumerate(made)), shelf)
        # Once more where the camera is at rest: a later frame may have told how the other shot lies on all of them.
        if still and any(one.revisited for one in made):
            self._mend(elsewhere, {k: one for k, one in enumerate(made) if not one.revisited}, shelf)

    def _mend(self, elsewhere: Revisits, made: Mapping[int, _Made], shelf: Shelf) -> None:
        for number, one in made.items():
            if elsewhere.may_show(one.provenance):
                picture = shelf[number]
                one.revisited = elsewhere.mend(picture, one.provenance, one.hole)
                shelf[number] = picture

    def _fill(self, made: Sequence[_Made], group: Group, shelf: Shelf) -> None:
        """Fills what recovery left, from the largest hole outwards in time: a shot's guess is of one piece."""
        from bglora.stages.engines import Chooser
        from bglora.vision.filling import ShotFill
        from bglora.vision.rating import removal_score

        shared = ShotFill(group.camera, group.gains)
        chooser = Chooser(self.rule, self.tools)
        holes = [int(one.hole.sum()) if self._worth_filling(one, group) else 0 for one in made]
        largest = max(range(len(made)), key=holes.__getitem__)
        for number in sorted(range(len(made)), key=lambda number: abs(number - largest)):
            one = made[number]
            if not holes[number]:
                continue
            chooser.likely, chooser.choice = one.provenance == RECOVERED, None
            picture = shared.apply(one.place, shelf[number], one.hole, chooser.fill)
            one.rated = chooser.choice
            own = chooser.choice is not None and 2 * chooser.choice.share * one.hole.size >= holes[number]
            one.choice = chooser.choice if own else chooser.main_choice()
            one.removal = removal_score(picture, one.hole)
            shelf[number] = picture

    def _worth_filling(self, made: _Made, group: Group) -> bool:
        """False for a plate that is dropped anyway, because too much of it would be a guess."""
        name = f"{self.shot}/{group.numbers[made.place]:06d}"
        return name in self.keep or float(made.hole.mean()) <= self.rule["max_guessed"]

    def _audited(
        self, group: Group, frames: Sequence[np.ndarray], made: Sequence[_Made], shelf: Shelf
    ) -> list[Leak | None]:
        """What may be left of a character in each plate; None where it is not asked for."""
        from bglora.vision.audit import leaks

        if not self.rule["audit"]:
            return [None] * len(made)
        removed = [one.provenance > 0 for one in made]
        return list(leaks(frames, removed, shelf, group.camera, group.gains))

    def _outcome(self, made: _Made, number: int, picture: np.ndarray, leak: Leak | None) -> Outcome:
        from bglora.film.png import write_png

        name = f"{self.shot}/{number:06d}"
        record = self._record(made, leak)
        if record["natural"] and name in self.keep:
            record["kept"] = True
        if self.watch is not None:
            record |= self.watch.record(number)
        reason = "" if name in self.keep else self._why_not(record, made.choice) or self._leaks(number, leak)
        if reason:
            return Outcome(name, "dropped", reason, record=record)
        picture = self._finished(made, picture, number)
        outputs = (f"plates/{name}.png", f"provenance/{name}.png")
        write_png(self.tools.scratch / outputs[0], picture)
        write_png(self.tools.scratch / outputs[1], made.provenance, palette=PALETTE)
        return Outcome(name, outputs=outputs, record=record)

    def _leaks(self, number: int, leak: Leak | None) -> str:
        """What of a character may be left, by the audit or by the detector; empty if nothing."""
        return (leak.words if leak else "") or (self.watch.words(number) if self.watch else "")

    def _finished(self, made: _Made, picture: np.ndarray, number: int) -> np.ndarray:
        """The plate as it is written: if asked for with the frame's grain where pixels are not the frame's own."""
        from bglora.vision.grain import add_grain, measure_grain

        removed = made.provenance > 0
        grain = measure_grain(picture, ~removed) if self.rule["grain"] == "match" else None
        return picture if grain is None else add_grain(picture, removed, grain, (self.tools.seed + number) % 2**31)

    def _record(self, made: _Made, leak: Leak | None) -> dict[str, Any]:
        """What plates.jsonl tells of one plate."""
        from bglora.stages.engines import rounded

        provenance, choice = made.provenance, made.choice
        shares = {"hole": provenance > 0, **{name: provenance == k + 1 for k, name in enumerate(ORIGINS)}}
        scores: dict[str, Any] = {"moving": round(leak.moving, 5), "fringe": round(leak.fringe, 5)} if leak else {}
        if made.recovered_psnr_db is not None:
            scores["recovered_psnr_db"] = round(made.recovered_psnr_db, 2)
        if choice is not None and choice.scores is not None:
            scores |= rounded(choice.scores)
        if made.removal is not None:
            scores["removal"] = round(made.removal, 3)
        natural = not (provenance > 0).any()
        return {
            "engine": choice.engine if choice else "none" if natural else "recover",
            "prompt": choice.prompt(self.rule) if choice else "",
            "seed": choice.seed if choice else 0,
            **{key: round(float(where.mean()), 5) for key, where in shares.items()},
            "scores": scores,
            "tries": len(choice.trials) or 1 if choice else 0,
            "rated": made.rated.rated() if made.rated else [],
            "natural": natural,
            **({"revisited": made.revisited} if made.revisited else {}),
        }

    def _why_not(self, record: Mapping[str, Any], choice: Choice | None) -> str:
        """Why a plate is not to be trusted; empty if it is."""
        from bglora.stages.engines import SMALLEST_RATED, shortfall

        guessed, measured = record["guessed"] + record["untrusted"], record["scores"]
        if guessed > self.rule["max_guessed"]:
            return (
                f"too much would be a guess: {guessed:.0%} of the frame, at most {self.rule['max_guessed']:.0%} may be"
            )
        real = measured.get("recovered_psnr_db")
        if record["recovered"] > 0 and real is not None and real < self.rule["recovered_psnr_db"]:
            least = self.rule["recovered_psnr_db"]
            return f"what other frames show doesn't fit this one: {real:.1f} dB where it is checked, {least:.1f} needed"
        if choice is not None and choice.scores is not None and not choice.good and guessed >= SMALLEST_RATED:
            tried = " and ".join(dict.fromkeys(trial.engine for trial in choice.trials))
            return f"the guess is too poor ({tried} tried): {shortfall(choice.scores, self.rule)}"
        return ""


@dataclass
class _Made:
    """A plate on its way; its picture is on the shelf.

    Attributes:
        place: index in the group.
        provenance: uint8 (H, W). hole: bool (H, W), what is left to fill.
        choice: who made the guesses that it shows; None without guesses.
        rated: the choice that was made on this very plate; None where the guess came from another one.
        removal: how much its guesses look like their surroundings, 0 to 1.
        revisited: other shots that show some of it, and which share of the frame each gave.
    """

    place: int
    provenance: np.ndarray
    hole: np.ndarray
    recovered_psnr_db: float | None
    choice: Choice | None = None
    rated: Choice | None = None
    removal: float | None = None
    revisited: Mapping[str, float] = field(default_factory=dict)


def _buckets(settings: Any) -> dict[str, Any]:
    """What wide plates are cut to: resolution and step of the training buckets.

    Where squares are trained it is SDXL's shapes: no square of a wide plate shows more than one of its frame does.
    """
    size, step = settings.train.resolution, settings.train.bucket_step or settings.train.resolution // 16
    return {"buckets": [size, step]} if settings.inpaint.wide else {}
