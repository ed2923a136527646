"""caption: a dataset per scene in kohya's folder layout, datasets/<scene>/<repeats>_<trigger>/*.png + *.txt.

One item a scene. Its remark is what training needs to know: trigger, prefix, keep_tokens (tags of both), repeats, flip,
held_out (plates that only give the validation loss), lettering (plates in which letters were found).

How much each pixel counts in training stands in provenance/. The native trainer reads it from there; for kohya's
trainer it is written into the alpha channel of the dataset's pictures (`alpha_mask = true`), where `train.backend` is
kohya and `train.provenance_loss` is on.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bglora import backends
from bglora.engine.stage import Item, Outcome, Row, Stage, Tools, View
from bglora.errors import UserError
from bglora.stages.scenes import source_of

if TYPE_CHECKING:
    from bglora.settings import Settings

READ = (
    "target_size",
    "min_difference",
    "held_out",
    "repeats",
    "mode",
    "prefix",
    "empty_words",
    "character_names",
    "flip",
)


class Caption(Stage):
    """Chooses a scene's plates and writes captions."""

    name = "caption"
    counts = "captions"
    reads = ("inpaint", "cluster")
    home = "datasets"

    def items(self, view: View) -> Iterable[Item]:
        """One item a scene; raises `UserError` if there is none, or a trigger can't be used."""
        from bglora.stages.dataset import triggers

        scenes = view.item_record("cluster", "all").get("scenes", [])
        if not scenes:
            raise UserError("There are no scenes to caption.", where=str(view.root / "scenes"), cure="bglora cluster")
        members: dict[str, list[str]] = {}
        for row in view.rows("cluster"):
            if row.status == "made":
                members.setdefault(row.record["scene"], []).append(row.picture)
        settings = view.settings.caption
        own = _own_triggers(settings.triggers)
        project = view.settings.project.name or source_of(scenes[0]["plates"][0])
        named = triggers(project, {scene["id"]: scene["title"] for scene in scenes}, own)
        plates = {row.picture: row for row in view.rows("inpaint") if row.status == "made"}
        for scene in scenes:
            rows = [plates[name] for name in members.get(scene["id"], []) if name in plates]
            if rows:
                yield _item(view, scene, named[scene["id"]], rows)

    def surroundings(self, view: View) -> str:
        """Who writes, and who compares plates, with their weights: other ones may lie at the same place."""
        return _writers(view.settings)

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        """Chooses plates, decides on mirroring, writes pictures and captions."""
        from bglora.stages.captioning import look_at

        chosen = look_at(item, tools)
        tools.remark(
            {
                "trigger": item.payload["trigger"],
                "prefix": item.settings["caption.prefix"],
                "repeats": item.settings["caption.repeats"],
                "keep_tokens": chosen.keep_tokens,
                "flip": chosen.flip,
                "lettering": list(chosen.lettering),
                "held_out": list(chosen.held_out),
                "masks": chosen.masks,
                **_by_another(chosen.captions.values()),
            }
        )
        files = dict(zip(item.pictures, item.files, strict=False))
        for name in item.pictures:
            yield _outcome(name, files[name], item, tools, chosen)


def _item(view: View, scene: Mapping[str, Any], trigger: str, rows: list[Row]) -> Item:
    settings, train = view.settings.caption, view.settings.train
    masks = train.backend == "kohya" and train.provenance_loss
    values = {f"caption.{key}": getattr(settings, key) for key in READ}
    if masks:
        values |= {"train.backend": train.backend, "train.guessed_weight": train.guessed_weight}
    files = [_output(row, "plates/") for row in rows]
    provenance = [_output(row, "provenance/") for row in rows] if masks else []
    told = view.decisions.captions() if view.decisions is not None else {}
    own = {row.picture: told[row.picture] for row in rows if row.picture in told}
    return Item(
        name=scene["id"],
        pictures=tuple(row.picture for row in rows),
        files=(*files, *(path for path in provenance if path)),
        settings=values,
        decisions={"captions": own} if own else {},
        payload={
            "trigger": trigger,
            "title": scene["title"],
            "guessed": {row.picture: round(row.record.get("guessed", 0.0), 4) for row in rows},
            "provenance": dict(zip((row.picture for row in rows), provenance, strict=False)),
        },
        backend=_writers(view.settings),
    )


def _writers(settings: Settings) -> str:
    caption, cluster = settings.caption, settings.cluster
    used = (("caption", caption.backend, caption), ("embed", cluster.backend, cluster))
    return " ".join(backends.identity(role, name, table) for role, name, table in used)


def _output(row: Row, folder: str) -> str:
    return next((path for path in row.outputs if path.startswith(folder)), "")


def _by_another(captions: Collection[Any]) -> dict[str, str]:
    """A notice of captions that another than the chosen captioner wrote, with the commonest reason."""
    said = Counter(caption.said for caption in captions if caption.said)
    if not said:
        return {}
    reason, _ = said.most_common(1)[0]
    return {"notice": f"{said.total()} of {len(captions)} captions were written otherwise: {reason}"}


def _own_triggers(own: Mapping[str, str]) -> dict[str, str]:
    seen: dict[str, str] = {}
    for scene, trigger in own.items():
        clean = trigger.strip()
        wrong = "is empty" if not clean else "has a comma or a line break" if set(clean) & set(",\n\r") else ""
        wrong = wrong or ("is used twice" if clean.casefold() in seen else "")
        if wrong:
            raise UserError(
                f"The trigger {trigger!r} {wrong}: a trigger is one tag of its own.",
                where=f"project.toml: caption.triggers, {scene}",
                cure=f"""bglora set caption.triggers '{{ "{scene}" = "one_word" }}'""",
            )
        seen[clean.casefold()] = scene
    return {scene: trigger.strip() for scene, trigger in own.items()}


def _outcome(name: str, file: str, item: Item, tools: Tools, chosen: Any) -> Outcome:
    if name in chosen.left:
        return Outcome(name, "dropped", chosen.left[name])
    caption = chosen.captions[name]
    own = item.decisions.get("captions", {}).get(name)
    written = caption.text if own is None else f"{item.payload['trigger']}, {own}"
    record = {"caption": written, "trigger": item.payload["trigger"], "scene": item.name}
    if caption.said and own is None:
        record["said"] = caption.said
    if name in chosen.held_out:
        return Outcome(name, "dropped", "held out for validation", record={**record, "held_out": True})
    stem = f"datasets/{item.name}/{chosen.folder}/{name.replace('/', '_')}"
    picture, text = tools.scratch / f"{stem}.png", tools.scratch / f"{stem}.txt"
    picture.parent.mkdir(parents=True, exist_ok=True)
    provenance = item.payload["provenance"].get(name)
    if provenance:
        from bglora.stages.captioning import write_weighted

        write_weighted(picture, tools.root / file, tools.root / provenance, item.settings["train.guessed_weight"])
    else:
        shutil.copyfile(tools.root / file, picture)
    text.write_text(written + "\n", "utf-8", newline="\n")
    return Outcome(name, outputs=(f"{stem}.png", f"{stem}.txt"), record={**record, "fields": dict(caption.fields)})
