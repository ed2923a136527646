"""cluster: plates sorted into scenes, one per location. One item, `all`.

Its remark is what scenes.json says (see stages/scenes.py) with a `notice` where the minimum was lowered or a decision
found nothing to do. Ids and titles come from the clustering before, which is read from the remark of the last one or,
without a ledger, from scenes.json: a hint, not an input, for a result that is its own input would never be fresh.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bglora import backends
from bglora.engine.stage import Item, Outcome, Row, Stage, Tools, View
from bglora.errors import UserError
from bglora.stages import scenes as naming

READ = ("min_cluster_size", "min_samples", "similarity_threshold", "min_sharpness")
FILE = "scenes/scenes.json"


class Cluster(Stage):
    """Sorts all plates into scenes."""

    name = "cluster"
    counts = "sorted plates"
    version = 2
    reads = ("ingest", "inpaint")
    home = "scenes"
    records = "scenes/plates.jsonl"

    def items(self, view: View) -> Iterable[Item]:
        """The one item; raises `UserError` if there are no plates."""
        rows = [row for row in view.rows("inpaint") if row.status == "made"]
        if not rows:
            raise UserError(
                "There are no plates to sort into scenes.",
                where=str(view.root / "plates"),
                cure="bglora run --to inpaint; if plates were dropped, `bglora status` says why.",
            )
        settings = view.settings.cluster
        values = {f"cluster.{key}": getattr(settings, key) for key in READ}
        if backends.find("embed", settings.backend).words:
            values["cluster.titles"] = settings.titles
        pictures = tuple(row.picture for row in rows)
        sources = sorted({naming.source_of(picture) for picture in pictures})
        yield Item(
            name="all",
            pictures=pictures,
            files=tuple(_plate(row) for row in rows),
            settings=values,
            decisions=_decisions(view.decisions, pictures),
            payload={
                "guessed": _guessed(rows, settings.max_guessed),
                "titles": {name: view.item_record("ingest", name).get("titles") or name for name in sources},
            },
            backend=backends.identity("embed", settings.backend, settings),
            hints={"before": _before(view)},
        )

    def surroundings(self, view: View) -> str:
        """The backend that compares plates, with its weights: other ones may lie at the same place."""
        return backends.identity("embed", view.settings.cluster.backend, view.settings.cluster)

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        """Sorts plates, names scenes, draws a contact sheet of each."""
        from bglora.stages.sorting import DROPPED, sort_plates
        from bglora.vision.sheet import write_sheet

        sheet = sort_plates(item, tools)
        content, before = sheet.scenes, item.hints["before"]
        out = {plate for plate in sheet.reasons if not sheet.reasons[plate].startswith(DROPPED)}
        apart = set(out)
        naming.decide(content, item.decisions["scenes"], before, out)
        moved = apart - out
        kept = moved | _give_back(sheet, item.decisions["pictures"], moved)
        left = {plate: reason for plate, reason in sheet.reasons.items() if plate not in kept}
        noise = [plate for plate, reason in left.items() if reason.startswith("noise: ")]
        summary = naming.summary(content, noise, before, item.decisions["rename"])
        if sheet.words:
            summary["words"] = {scene: [word, round(share, 3)] for scene, (word, share) in sorted(sheet.words.items())}
        notice = [*sheet.notices, *content.unused]
        tools.remark({**summary, "notice": "; ".join(notice)} if notice else summary)
        files = dict(zip(item.pictures, item.files, strict=True))
        for scene in summary["scenes"]:
            picture = f"scenes/{scene['id']}.webp"
            write_sheet(tools.scratch / picture, [tools.root / files[plate] for plate in scene["plates"]])
            for number, plate in enumerate(scene["plates"]):
                record = {"scene": scene["id"], "score": round(sheet.scores.get(plate, 0.0), 3)}
                yield Outcome(plate, outputs=(picture,) if number == 0 else (), record=record)
        for plate, reason in sorted(left.items()):
            yield Outcome(plate, "dropped", reason, record={"score": round(sheet.scores.get(plate, 0.0), 3)})

    def shared_files(self, view: View) -> Mapping[str, bytes]:
        """scenes/scenes.json: what the last clustering said."""
        content = view.item_record(self.name, "all")
        if not content:
            return {}
        ordered = {"scenes": content["scenes"], "noise": content["noise"], **content}
        return {FILE: (json.dumps(ordered, ensure_ascii=False, indent=1) + "\n").encode()}


def _plate(row: Row) -> str:
    return next(path for path in row.outputs if path.startswith("plates/"))


def _guessed(rows: Sequence[Row], most: float) -> dict[str, float]:
    """Plates of which too much is a guess, with the share."""
    shares = {row.picture: row.record.get("guessed", 0.0) + row.record.get("untrusted", 0.0) for row in rows}
    return {picture: round(share, 4) for picture, share in shares.items() if share > most}


def _decisions(decisions: Any, pictures: Sequence[str]) -> dict[str, Any]:
    """What a person decided about plates and scenes; merges, splits and moves in the order they were decided."""
    changes = [dict(one.values) for one in decisions.entries if one.kind in ("merge", "split", "move")]
    return {
        "pictures": decisions.about("pictures", pictures),
        "scenes": changes,
        "rename": decisions.renames(),
    }


def _before(view: View) -> Mapping[str, Any]:
    """What the clustering before said; empty the first time."""
    remark = view.item_record("cluster", "all")
    if remark:
        return remark
    return naming.read_scenes(view.root / FILE)


def _give_back(sheet: Any, decided: Mapping[str, str], moved: set[str]) -> set[str]:
    """Plates that were left out and that a person keeps, put into their nearest scene unless he moved them to one."""
    kept = set()
    for plate in _kept(sheet.reasons, decided):
        if plate in moved:
            continue
        scene = sheet.nearest[plate]
        while scene in sheet.scenes.merged:  # a scene that took in others may have been merged itself
            scene = sheet.scenes.merged[scene]
        naming.give_back(sheet.scenes, plate, scene)
        kept.add(plate)
    return kept


def _kept(reasons: Iterable[str], decided: Mapping[str, str]) -> Iterator[str]:
    yield from (plate for plate in sorted(reasons) if decided.get(plate) == "keep")
