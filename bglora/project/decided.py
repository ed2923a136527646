"""What the stages decided on their own, in one sentence each, with the commands that change it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bglora.engine.stage import Row, View
from bglora.stages.remedies import command, remedies

Way = tuple[str, str, float]
"""What for, which setting, and its value then."""


@dataclass(frozen=True)
class Decided:
    """One stage's decisions.

    Attributes:
        stage: its name.
        text: what was decided: `Kept 64 of 276 frames (title 24, fade 12).`
        change: how to change it: "More: `bglora set ingest.fps 4`."
    """

    stage: str
    text: str
    change: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def decided(view: View, stages: Iterable[str]) -> list[Decided]:
    """A sentence for each of the stages that has results."""
    found = []
    for stage in stages:
        rows = view.rows(stage)
        if stage in TELL and any(row.status != "failed" for row in rows):
            found.append(TELL[stage](view, rows))
    return found


def _ingest(view: View, rows: Sequence[Row]) -> Decided:
    total, left_out = 0, Counter[str]()
    for item in sorted({row.item for row in rows}):
        remark = view.item_record("ingest", item)
        total += int(remark.get("video", {}).get("count", 0))
        for shot in remark.get("shots", ()):
            for span in shot.get("left_out", ()):
                left_out[str(span["why"])] += int(span["last"]) - int(span["first"]) + 1
    kept = len(_made(rows))
    of = f" of {total}" if total >= kept else ""
    rest = total - kept - left_out.total()
    between = f"; the other {rest} lie between those kept" if rest > 0 else ""
    ingest = view.settings.ingest
    if rest > 0:
        change = _ways(
            view, ("More", "ingest.fps", 2 * ingest.fps), ("More", "ingest.max_per_shot", 2 * ingest.max_per_shot)
        )
    else:
        change = _ways(view, ("Fewer", "ingest.fps", ingest.fps / 2 or 2.0))
    return Decided("ingest", f"Kept {kept}{of} frames{_why(left_out)}{between}.", change)


def _segment(view: View, rows: Sequence[Row]) -> Decided:
    made = _made(rows)
    seen = sum(float(row.record.get("object", 0)) > 0 for row in made)
    unknown = sum(view.item_record("segment", item).get("camera") == "unknown" for item in {row.item for row in rows})
    lost = f" In {_count(unknown, 'shot')} the camera could not be followed." if unknown else ""
    gone = f"; besides these, {_dropped(rows)}" if len(rows) > len(made) else ""
    text = f"Characters found in {seen} of {_count(len(made), 'frame')}{gone}.{lost}"
    rescue = " Nobody is in dropped frames? `bglora keep 'SHOT/*'` takes them as they are." if gone else ""
    segment = view.settings.segment
    change = _ways(
        view,
        ("Wider masks", "segment.dilate", segment.dilate + 2),
        ("Smaller characters", "segment.min_area", segment.min_area // 2),
    )
    return Decided("segment", text, f"{change}{rescue}".strip())


def _inpaint(view: View, rows: Sequence[Row]) -> Decided:
    made = _made(rows)
    natural = sum(bool(row.record.get("natural")) for row in made)
    guessed = sum(float(row.record.get("guessed", 0)) > 0 for row in made)
    whole = len(made) - natural - guessed
    text = (
        f"{_count(len(made), 'plate')}: {natural} as they were, {whole} recovered from other frames, "
        f"{guessed} partly guessed; {_dropped(rows)}."
    )
    stricter = _ways(view, ("Stricter", "inpaint.max_guessed", view.settings.inpaint.max_guessed / 2))
    return Decided("inpaint", text, f"{stricter} Single pictures: `bglora drop`, `bglora keep`.".strip())


def _cluster(view: View, rows: Sequence[Row]) -> Decided:
    scenes = Counter(str(row.record.get("scene")) for row in _made(rows))
    listed = ", ".join(f"{scene} {count}" for scene, count in sorted(scenes.items()))
    noise = len(rows) - len(_made(rows))
    none = f"; {_count(noise, 'plate belongs', 'plates belong')} to none" if noise else ""
    text = f"{_count(len(scenes), 'scene')} ({listed}){none}." if scenes else "No scene was found."
    smaller = _ways(
        view, ("Smaller places, too", "cluster.min_cluster_size", view.settings.cluster.min_cluster_size // 2)
    )
    change = f"Otherwise: `bglora rename`, `bglora merge`, `bglora split`. {smaller}".strip()
    return Decided("cluster", text, change)


def _caption(view: View, rows: Sequence[Row]) -> Decided:
    held = sum(bool(row.record.get("held_out")) for row in rows)
    sets = len({row.item for row in rows})
    apart = f", {held} held out to check the training" if held else ""
    text = f"{_count(len(_made(rows)), 'picture')} in {_count(sets, 'data set')}{apart}."
    caption, reasons = view.settings.caption, [row.reason for row in rows]
    more: list[Way] = []
    if any(reason.startswith("near copy of ") for reason in reasons):
        more.append(("More", "caption.min_difference", caption.min_difference / 2))
    if any(reason.startswith("not among ") for reason in reasons):
        more.append(("More", "caption.target_size", 2 * caption.target_size))
    return Decided("caption", text, f"{_ways(view, *more)} Captions are .txt files, edit them freely.".strip())


def _train(view: View, rows: Sequence[Row]) -> Decided:
    names = ", ".join(sorted(row.item for row in _made(rows)))
    text = f"{_count(len(_made(rows)), 'LoRA')} in loras/: {names}." if names else "No LoRA was made."
    text += "".join(f" {row.item}: {row.reason}." for row in _made(rows) if row.reason)
    base = view.settings.train.base
    if base == "mini" and names:
        works = "It works" if len(_made(rows)) == 1 else "They work"
        text += f" {works} on the small base model mini only."
        return Decided("train", text, "For SDXL, on a graphics card: `bglora init FOLDER --preset studio`.")
    record: Mapping[str, Any] = next((row.record for row in _made(rows)), {})
    longer = remedies(view.settings, record, int(record.get("pictures", 0)))["longer"]
    return Decided("train", text, f"Longer: {longer}.")


COUNTED = {"hallucinates characters", "conflicts with the character"}
"""Verdicts that rest on counting characters."""


def _test(view: View, rows: Sequence[Row]) -> Decided:
    words, given = [], set()
    for row in _made(rows):
        verdict = [str(one.get("word")) for one in row.record.get("verdict", ())]
        given.update(verdict)
        scale, lora = row.record.get("recommended_scale"), str(row.record.get("recommended_lora", ""))
        file = f"{lora} at " if "/checkpoints/" in lora else ""
        words.append(
            f"{row.item} {', '.join(verdict) or 'good'}"
            + (f" ({file}scale {scale:g})" if scale and "not enough data" not in verdict else "")
        )
    text = f"Verdicts: {'; '.join(words)}." if words else "No grid was made."
    if given & COUNTED and view.settings.train.base == "mini" and not view.settings.test.detector:
        text += " Characters are counted by mini's small judge, who takes one soft empty picture in five for somebody:"
        text += " look at the grid before you drop plates."
    return Decided("test", text, "Cures: `bglora report`.")


def _compose(view: View, rows: Sequence[Row]) -> Decided:
    text = f"{_count(len(_made(rows)), 'picture')} in compositions/."
    by: dict[str, list[str]] = {}
    for row in _made(rows):
        used: Mapping[str, Any] = next((one for one in row.record.get("loras", ()) if one["role"] == "background"), {})
        file = f"{used['file']} at " if "/checkpoints/" in used.get("file", "") else ""
        if used.get("why"):
            by.setdefault(used["why"], []).append(f"{row.record['scene']} ({file}scale {used['scale']:g})")
    told = (f" Backgrounds {why}: {', '.join(dict.fromkeys(scenes))}." for why, scenes in by.items())
    compose = view.settings.compose
    weaker = 0.5 if compose.background_scale == "auto" else compose.background_scale / 2
    change = _ways(
        view,
        ("More", "compose.pictures", 2 * compose.pictures),
        ("Weaker backgrounds", "compose.background_scale", weaker),
    )
    return Decided("compose", text + "".join(told), change)


TELL: Mapping[str, Callable[[View, Sequence[Row]], Decided]] = {
    "ingest": _ingest,
    "segment": _segment,
    "inpaint": _inpaint,
    "cluster": _cluster,
    "caption": _caption,
    "train": _train,
    "test": _test,
    "compose": _compose,
}


def _made(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.status == "made"]


def _ways(view: View, *ways: Way) -> str:
    """What each end takes: "More: `bglora set ingest.fps 4`, `bglora set ingest.max_per_shot 16`."."""
    ends: dict[str, list[str]] = {}
    for end, key, value in ways:
        if typed := command(view.settings, key, value):
            ends.setdefault(end, []).append(typed)
    return " ".join(f"{end}: {', '.join(typed)}." for end, typed in ends.items())


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _dropped(rows: Sequence[Row]) -> str:
    reasons = Counter(row.reason.partition(":")[0] for row in rows if row.status == "dropped")
    return f"{sum(reasons.values())} dropped{_why(reasons)}" if reasons else "none dropped"


def _why(reasons: Counter[str]) -> str:
    return f" ({', '.join(f'{count} x {reason}' for reason, count in reasons.most_common(5))})" if reasons else ""
