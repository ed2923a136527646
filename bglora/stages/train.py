"""`train`: one background LoRA per scene, from its dataset."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from bglora import backends
from bglora.engine.stage import Item, Outcome, Row, Stage, Stopped, Tools, View
from bglora.errors import UserError
from bglora.settings.lora import ALL_SCENES
from bglora.stages import characters
from bglora.stages.hyper import RENAMED, Liked, check_start, liked, recipe_of_settings, recipe_settings
from bglora.training.job import Part, Paused, TrainJob, TrainPicture

COPIED = 3
"""Training pictures below which a LoRA can hardly learn more than to paint them again."""


@dataclass(frozen=True)
class SceneData:
    """A scene's dataset as the stages before left it; paths are relative to the project.

    Attributes:
        pictures, held_out: {"name", "image", "caption" (text) or "text" (file), "provenance" or ""}.
        about: what `caption` remarked: trigger, prefix, repeats, flip, keep_tokens.
    """

    scene: str
    title: str
    about: Mapping[str, Any]
    pictures: tuple[dict[str, str], ...]
    held_out: tuple[dict[str, str], ...]

    @property
    def files(self) -> tuple[str, ...]:
        entries = (*self.pictures, *self.held_out)
        return tuple(
            sorted({entry[key] for entry in entries for key in ("image", "text", "provenance") if entry.get(key)})
        )


def scene_data(view: View) -> list[SceneData]:
    """Every scene that has a dataset, sorted by name.

    Raises:
        UserError: there is none.
    """
    scenes: dict[str, list[Row]] = defaultdict(list)
    for row in view.rows("caption"):
        scenes[row.item].append(row)
    if not scenes:
        raise UserError("There are no datasets to train on.", where=str(view.root / "datasets"), cure="bglora caption")
    clustered = view.item_record("cluster", "all").get("scenes", [])
    titles = {scene["id"]: scene.get("title") or scene["id"] for scene in clustered}
    plates = {row.picture: row.outputs for row in view.rows("inpaint") if row.status == "made"}
    return [
        SceneData(
            scene,
            titles.get(scene, scene),
            view.item_record("caption", scene),
            tuple(_trained(row, plates) for row in rows if row.status == "made"),
            tuple(_held_out(row, plates) for row in rows if row.record.get("held_out") and row.picture in plates),
        )
        for scene, rows in sorted(scenes.items())
    ]


def together(scenes: Sequence[SceneData], train: Any) -> SceneData:
    """The pictures of all scenes as one, each with its own captions and trigger.

    Raises:
        UserError: another trainer than native is to do it.
    """
    if train.backend == "kohya":
        raise UserError(
            "kohya trains a LoRA for each scene; one for all scenes together is trained by native.",
            where=f"train.scenes = {train.scenes}",
            cure="bglora set train.scenes each, or bglora set train.backend native",
        )
    there = [data for data in scenes if data.pictures]
    parts = [
        {
            "title": data.title,
            "trigger": data.about["trigger"],
            "repeats": int(data.about["repeats"]),
            "flip": bool(data.about["flip"]),
            "pictures": len(data.pictures),
        }
        for data in there
    ]
    about = {
        "trigger": ", ".join(part["trigger"] for part in parts),
        "repeats": max((part["repeats"] for part in parts), default=1),
        "flip": any(part["flip"] for part in parts),
        "keep_tokens": max((int(data.about["keep_tokens"]) for data in there), default=0),
        "parts": parts,
    }
    pictures, held_out = ([one for data in there for one in getattr(data, name)] for name in ("pictures", "held_out"))
    return SceneData(ALL_SCENES, "All scenes", about, tuple(pictures), tuple(held_out))


def _trained(row: Row, plates: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    image = next(path for path in row.outputs if path.endswith(".png"))
    text = next(path for path in row.outputs if path.endswith(".txt"))
    return {"name": row.picture, "image": image, "text": text, "provenance": _provenance(row.picture, plates)}


def _held_out(row: Row, plates: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    image = next(path for path in plates[row.picture] if path.startswith("plates/"))
    caption = str(row.record.get("caption", ""))
    return {"name": row.picture, "image": image, "caption": caption, "provenance": _provenance(row.picture, plates)}


def _provenance(picture: str, plates: Mapping[str, tuple[str, ...]]) -> str:
    return next((path for path in plates.get(picture, ()) if path.startswith("provenance/")), "")


def located_base(root: Path, base: str) -> str:
    """A base written as a path relative to the project becomes absolute; other names stay."""
    inside = root / base
    return str(inside) if base != "mini" and (inside.exists() or inside.suffix == ".safetensors") else base


def shown_base(base: str) -> str:
    """A base as outputs may name it: without the folders of this machine."""
    return Path(base).name if Path(base).is_absolute() else base


class Train(Stage):
    name: ClassVar[str] = "train"
    counts: ClassVar[str] = "LoRAs"
    version: ClassVar[int] = 2
    reads: ClassVar[tuple[str, ...]] = ("segment", "inpaint", "cluster", "caption")
    home: ClassVar[str] = "loras"
    parallel: ClassVar[bool] = False
    keeps_scratch: ClassVar[bool] = True
    keeps_earlier: ClassVar[bool] = True

    def items(self, view: View) -> Iterable[Item]:
        """One a scene, and one a character that the settings name."""
        chosen = liked(view.root, view.settings)
        check_start(view.root, chosen.train)
        scenes = scene_data(view)
        if chosen.train.scenes != "all":
            yield from (_item(view, data, chosen) for data in scenes)
        if chosen.train.scenes != "each":
            yield _item(view, together(scenes, chosen.train), chosen)
        yield from (_character(view, one, chosen) for one in characters.listed(view, scenes))

    def surroundings(self, view: View) -> str:
        """The files that settings name."""
        train = view.settings.train
        return " ".join(_stamp(view.root / name) for name in (train.like, train.network_weights) if name)

    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        """Trains one LoRA; stopped or killed, it goes on from the state in its scratch folder."""
        dataset: tuple[str, ...] = ()
        if characters.is_character(item):
            item, dataset = characters.prepared(item, tools)
        if not item.payload["pictures"]:
            yield Outcome(item.name, "dropped", "not enough data: the scene has no pictures to train on")
            return
        job = job_of(item, Path(tools.root), tools.settings.train)
        remark = _remark(len(job.pictures))
        for said in (item.payload["like"], remark):
            if said:
                tools.progress(0, 1, said)
        train = tools.settings.train
        key = f"train:{train.backend}:{job.base}"
        backend = tools.once(key, lambda: backends.load("train", train.backend, train))
        try:
            result = backend.train(job, tools)
        except Paused as paused:
            raise Stopped(str(paused)) from paused
        record = {**result.record, "base": shown_base(train.base), "title": job.title}
        if result.undone:
            yield Outcome(item.name, "failed", result.undone, outputs=(*result.outputs, *dataset), record=record)
            return
        cards = _write_cards(item, job, record, result.outputs, Path(tools.scratch))
        told = "; ".join(filter(None, (remark, *record.get("remarks", ()))))
        yield Outcome(item.name, reason=told, outputs=(*result.outputs, *cards, *dataset), record=record)


def _item(view: View, data: SceneData, chosen: Liked) -> Item:
    train = chosen.train
    located = train.model_copy(update={"base": located_base(view.root, train.base)})
    named = (name for name in (train.like, train.network_weights) if name)
    recipe = recipe_settings(train, len(data.pictures))
    return Item(
        name=data.scene,
        pictures=(data.scene,),
        files=(*data.files, *_own_template(view.root, train), *(Path(name).as_posix() for name in named)),
        settings={f"train.{key}": value for key, value in recipe.items()},
        payload={
            "title": data.title,
            "about": dict(data.about),
            "pictures": list(data.pictures),
            "held_out": list(data.held_out),
            "created": view.settings.project.created,
            "like": chosen.told,
            "taken": list(chosen.taken),
        },
        backend=backends.identity("train", train.backend, located),
    )


def _character(view: View, character: characters.Character, chosen: Liked) -> Item:
    """A character learns as scenes do, from the start: nothing of a place is in it."""
    train = chosen.train.model_copy(update={"network_weights": ""})
    data = SceneData(character.name, character.title, {}, (), ())
    plain = _item(view, data, replace(chosen, train=train))
    return replace(
        plain,
        files=tuple(sorted({*plain.files, *character.files})),
        settings={**plain.settings, **character.settings},
        payload={**plain.payload, **character.payload},
    )


def _stamp(path: Path) -> str:
    info = path.stat() if path.is_file() else None
    return f"{path.name} {info.st_size} {info.st_mtime_ns}" if info else f"{path.name} absent"


def _remark(pictures: int) -> str:
    """What to expect of so few pictures; empty from `COPIED` on."""
    if pictures >= COPIED:
        return ""
    many = "1 picture" if pictures == 1 else f"{pictures} pictures"
    return f"only {many} to learn from, so expect copies of {'it' if pictures == 1 else 'them'}"


def _own_template(root: Path, train: Any) -> tuple[str, ...]:
    """The project's own template for kohya, if it trains and there is one."""
    path = f"templates/kohya/{train.kohya_template}.toml"
    return (path,) if train.backend == "kohya" and (root / path).is_file() else ()


def job_of(item: Item, root: Path, train: Any) -> TrainJob:
    """An item as data for a backend. `train` is the settings' table."""
    about = item.payload["about"]
    weights = item.settings["train.network_weights"]
    pictures = tuple(_picture(entry, root) for entry in item.payload["pictures"])
    return TrainJob(
        scene=item.name,
        title=item.payload["title"],
        trigger=about["trigger"],
        base=located_base(root, train.base),
        pictures=pictures,
        held_out=tuple(_picture(entry, root) for entry in item.payload["held_out"]),
        dataset=root / "datasets" / item.name,
        repeats=int(about["repeats"]),
        flip=bool(about["flip"]),
        keep_tokens=int(about["keep_tokens"]),
        created=item.payload["created"],
        recipe=recipe_of_settings(item.settings, train, int(about["keep_tokens"])),
        force=train.force,
        network_weights=root / weights if weights else None,
        parts=tuple(Part(**part) for part in about.get("parts", ())),
        taken=tuple(RENAMED.get(name, name) for name in item.payload["taken"]),
    )


def _picture(entry: Mapping[str, str], root: Path) -> TrainPicture:
    caption = entry.get("caption") or _first_line(root / entry["text"])
    provenance = root / entry["provenance"] if entry["provenance"] else None
    return TrainPicture(entry["name"], root / entry["image"], caption, provenance)


def _first_line(path: Path) -> str:
    """The caption of a picture: the first line of its file, as sd-scripts reads it."""
    if not path.is_file():
        raise UserError("A picture has no caption.", where=str(path), cure="bglora caption")
    lines = path.read_text("utf-8").strip().splitlines()
    if not lines or not lines[0].strip():
        raise UserError(
            "A caption is empty; nothing can be learned from it.",
            where=str(path),
            cure="Write a caption into it, or delete it and run: bglora caption",
        )
    return lines[0].strip()


def _write_cards(
    item: Item, job: TrainJob, record: Mapping[str, Any], outputs: Sequence[str], scratch: Path
) -> tuple[str, str]:
    """The card as JSON for programs and as Markdown for people."""
    works_on = works_only_on_mini(job.base)
    character = characters.is_character(item)
    card = {
        "lora": f"{job.scene}.safetensors",
        "kind": "character" if character else "background",
        "title": job.title,
        "trigger": job.trigger,
        "triggers": {part.title: part.trigger for part in job.parts},
        "example_prompt": job.pictures[0].caption,
        "recommended_scale": 1.0 if character else 0.7,
        "base": record["base"],
        "works_on": works_on or "It works on checkpoints of the same family as its base.",
        "trained_on": {"pictures": len(job.pictures), "held_out": len(job.held_out), "repeats": job.repeats},
        "steps": record.get("steps"),
        "kept_step": record.get("kept_step"),
        "pictures_seen": record.get("pictures_seen"),
        "like": item.payload["like"],
        "starts_from": record.get("starts_from", ""),
        "other_tools": {tool: path for tool, path in _elsewhere(job, outputs)},
        "loss": record.get("loss"),
        "validation": record.get("validation"),
        "settings": record.get("options")
        or {key.removeprefix("train."): value for key, value in sorted(item.settings.items())},
        "created": job.created,
    }
    home = scratch / "loras"
    home.mkdir(parents=True, exist_ok=True)
    (home / f"{job.scene}.json").write_text(
        json.dumps(card, indent=2, ensure_ascii=False) + "\n", "utf-8", newline="\n"
    )
    (home / f"{job.scene}.md").write_text(_markdown(card, job), "utf-8", newline="\n")
    return f"loras/{job.scene}.json", f"loras/{job.scene}.md"


def _elsewhere(job: TrainJob, outputs: Sequence[str]) -> list[tuple[str, str]]:
    """Tools that read another file than the LoRA itself: a DoRA has some."""
    tools = {"diffusers": "diffusers", "comfyui": "ComfyUI and Forge"}
    paths = {name: f"loras/{job.scene}/{name}.safetensors" for name in tools}
    return [(tools[name], path.removeprefix("loras/")) for name, path in paths.items() if path in outputs]


def _markdown(card: Mapping[str, Any], job: TrainJob) -> str:
    settings = "\n".join(f"| {key} | {value} |" for key, value in card["settings"].items())
    background = card["kind"] == "background"
    word = "plate" if background else "picture"
    beside = (
        "a character LoRA at 1.0; `bglora test` measures a better one" if background else "a background LoRA at 0.7"
    )
    others = "; ".join(f"{tool}: `{path}`" for tool, path in card["other_tools"].items())
    notes = [
        card["like"],
        card["starts_from"],
        f"DoRA, for sd-scripts with LyCORIS; {others}; not for A1111" * bool(others),
    ]
    return f"""# {card["title"]}

{card["kind"].capitalize()} LoRA `{card["lora"]}`. {card["works_on"]}

{_triggers(card)}
- Scale: {card["recommended_scale"]} beside {beside}
- A1111 and Forge: `<lora:{job.scene}:{card["recommended_scale"]}> {card["example_prompt"]}`
- Trained on {_counted(len(job.pictures), word)} ({len(job.held_out)} more held out), {card["steps"]} optimizer steps, \
{card["pictures_seen"]} pictures seen
{"".join(f"- {said[:1].upper()}{said[1:]}{chr(10)}" for said in notes if said)}
| setting | value |
|---|---|
{settings}
"""


def _triggers(card: Mapping[str, Any]) -> str:
    if not card["triggers"]:
        return f"- Trigger: `{card['trigger']}`, at the start of the prompt"
    lines = [f"  - {title}: `{trigger}`" for title, trigger in card["triggers"].items()]
    return "\n".join(["- Triggers, one of them at the start of the prompt:", *lines])


def _counted(number: int, word: str) -> str:
    return f"1 {word}" if number == 1 else f"{number} {word}s"


def works_only_on_mini(base: str) -> str:
    """What a card has to say about a LoRA on the embedded base; empty for others."""
    if base != "mini":
        return ""
    return (
        "It works on mini only, the small model that comes with bglora. For a LoRA that works with SDXL: `bglora set "
        "train.base stabilityai/stable-diffusion-xl-base-1.0` on a machine with a GPU, then `bglora train` again; or "
        "`bglora set train.backend kohya`, and train the same dataset with sd-scripts."
    )
