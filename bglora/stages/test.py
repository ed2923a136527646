"""`test`: a grid of pictures per LoRA, and a verdict on them in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

from bglora import backends
from bglora.engine.files import digest_bytes
from bglora.engine.fingerprint import canonical
from bglora.engine.stage import Item, Outcome, Stage, Tools, View
from bglora.errors import UserError
from bglora.settings.lora import ALL_SCENES
from bglora.stages import appearances, composition
from bglora.stages.characters import PREFIX
from bglora.stages.grids import FINAL, Asked, paint_grids, write_grid
from bglora.stages.judging import Data, Judged, Plates, best, judge, plates_of, scores, views_of
from bglora.stages.remedies import remedies
from bglora.stages.train import SceneData, located_base, scene_data

LIGHT = ("golden evening",)
ELSEWHERE = ("beach, sand and sea, palm trees", "cozy room, kitchen and furniture")
"""Two other places, for no scene is both."""
CHARACTER = "with a character"
FOR_LIKENESS, FOR_APPEARANCES, FOR_COPIES = 32, 32, 32
"""Held-out and training plates that pictures are compared with, at most."""


class Test(Stage):
    name: ClassVar[str] = "test"
    counts: ClassVar[str] = "grids"
    version: ClassVar[int] = 10
    reads: ClassVar[tuple[str, ...]] = ("inpaint", "cluster", "caption", "train")
    home: ClassVar[str] = "grids"
    parallel: ClassVar[bool] = False
    __test__ = False  # pytest must not take it for a test class

    def items(self, view: View) -> Iterable[Item]:
        """One for each trained scene."""
        loras = trained_loras(view)
        settings = view.settings
        identity = painter_identity(view.root, settings)
        embedder = backends.identity("embed", settings.cluster.backend, settings.cluster)
        about = settings.test.model_dump(mode="json", exclude={"fail_on"})  # what is refused changes no picture
        chosen = {f"test.{key}": value for key, value in about.items()}
        character = own_character(loras, settings.compose.characters)
        if character:
            chosen["compose.character_scale"] = settings.compose.character_scale
            chosen["compose.character_prompt"] = settings.compose.character_prompt
        for name, data, lora in backgrounds(scene_data(view), loras):
            tested = {FINAL: lora, **checkpoints(view, Path(lora).stem)}
            captions = [entry for entry in data.pictures if entry["text"]]
            yield Item(
                name=name,
                pictures=(name,),
                files=tuple(sorted({*tested.values(), *_images(data), *_texts(data), *filter(None, [character])})),
                settings={
                    **chosen,
                    "train.threads": settings.train.threads,
                    "caption.empty_words": settings.caption.empty_words,
                    "caption.character_names": list(settings.caption.character_names),
                },
                payload={
                    "title": data.title,
                    "trigger": data.about["trigger"],
                    "loras": list(tested.items()),
                    "trained": trained_as(view, Path(lora).stem),
                    "character": character,
                    "texts": [entry["text"] for entry in captions],
                    "lighting": _lighting(view, data.scene),
                    "plates": {entry["name"]: entry["image"] for entry in data.pictures},
                    "held_out": [entry["image"] for entry in data.held_out],
                    "copies": _near_copies(view, data.scene),
                    "limits": _limits(view, data.scene),
                    "remedies": remedies(settings, _record(view, Path(lora).stem), len(captions)),
                },
                backend=f"{identity} {embedder}{appearances.identity(settings)}",
            )

    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        """Paints the grid and judges it."""
        from bglora.training.base import exact

        with exact(int(item.settings["train.threads"])):
            painter = shared_painter(tools)
            try:
                yield _test(item, tools, painter)
            finally:
                painter.close()


def trained_loras(view: View) -> dict[str, str]:
    """Scene to its LoRA file. Raises `UserError` when none was trained."""
    rows = [row for row in view.rows("train") if row.status == "made"]
    if not rows:
        raise UserError("There are no LoRAs yet.", where=str(view.root / "loras"), cure="bglora train")
    return {row.picture: next(path for path in row.outputs if path.endswith(".safetensors")) for row in rows}


def own_character(loras: Mapping[str, str], wanted: Sequence[str]) -> str:
    """LoRA file of the character who stands in test pictures: the first of the project's own that `compose.characters`
    names, or the first by name; empty where there is none.
    """
    own = {name.removeprefix(PREFIX): file for name, file in sorted(loras.items()) if name.startswith(PREFIX)}
    named = [own[name] for name in wanted if name in own]
    return next(iter([*named, *own.values()]), "")


def trained_as(view: View, scene: str) -> str:
    """A short hash of what `train` recorded of a LoRA: another one after another training."""
    return digest_bytes(canonical([_record(view, scene)]).encode())[:16]


def _record(view: View, scene: str) -> Mapping[str, Any]:
    """What `train` recorded of a LoRA."""
    return next((row.record for row in view.rows("train") if row.picture == scene), {})


def backgrounds(scenes: Sequence[SceneData], loras: Mapping[str, str]) -> Iterator[tuple[str, SceneData, str]]:
    """What there is to paint: an item's name, the scene, its LoRA file. A scene that has a LoRA of its own and is in
    the one for all scenes as well is there twice.
    """
    for data in scenes:
        if data.scene in loras:
            yield data.scene, data, loras[data.scene]
        if ALL_SCENES in loras and data.pictures:
            yield (f"{data.scene}-all" if data.scene in loras else data.scene), data, loras[ALL_SCENES]


def checkpoints(view: View, scene: str) -> dict[int, str]:
    """Step to LoRA file, of those that `train` kept along the way."""
    rows = [row for row in view.rows("train") if row.status == "made" and row.picture == scene]
    paths = (path for row in rows for path in row.outputs if "/checkpoints/" in path)
    return {int(re.findall(r"\d+", Path(path).stem)[-1]): path for path in sorted(paths)}


def painter_identity(root: Path, settings: Any) -> str:
    located = settings.train.model_copy(update={"base": located_base(root, settings.train.base)})
    return backends.identity("paint", "diffusers", located)


def shared_painter(tools: Tools) -> Any:
    """The painter on the project's base, loaded once per process."""
    train = tools.settings.train
    located = train.model_copy(update={"base": located_base(Path(tools.root), train.base)})
    memory = tools.settings.compose.memory
    paint = backends.module("paint", "diffusers")
    return tools.once(f"paint:{located.base}:{memory}", lambda: paint.create(located, memory=memory))


def _images(data: SceneData) -> set[str]:
    return {entry["image"] for entry in (*data.pictures, *data.held_out)}


def _texts(data: SceneData) -> set[str]:
    return {entry["text"] for entry in data.pictures}


def _lighting(view: View, scene: str) -> list[str]:
    """Words for light that the scene's captions use."""
    rows = [row for row in view.rows("caption") if row.item == scene]
    return sorted({str(row.record.get("fields", {}).get("lighting", "")) for row in rows} - {""})


def _near_copies(view: View, scene: str) -> int:
    """Plates of the scene that `caption` left out because they show what another one shows."""
    return sum(row.item == scene and row.reason.startswith("near copy of ") for row in view.rows("caption"))


def _limits(view: View, scene: str) -> list[str]:
    """Commands that would let in more plates: of the film's frames (0 is no limit), and of the scene's."""
    ingest = view.settings.ingest
    found = [f"`bglora set ingest.{key} 0`" for key in ("fps", "max_per_shot") if getattr(ingest, key)]
    full = any(row.item == scene and row.reason.startswith("not among ") for row in view.rows("caption"))
    more = f"`bglora set caption.target_size {2 * view.settings.caption.target_size}`"
    return [*found, more] if full else found


def default_prompts(
    captions: Sequence[str],
    lighting: Sequence[str],
    empty_words: str,
    who: str = "",
    lights: Sequence[str] = LIGHT,
) -> list[str]:
    """A caption as it is, with a character instead of the empty-scene words, and in other lights.

    Args:
        lighting: words for light that the scene's captions use.
        who: a character's trigger and words, which come after the place's trigger; empty: any character, at the end.
    """
    empty = {tag.strip() for tag in empty_words.split(",") if tag.strip()}
    tags = [tag.strip() for tag in captions[len(captions) // 2].split(",") if tag.strip()]
    place = [tag for tag in tags if tag not in empty]
    unlit = [tag for tag in place if tag not in lighting]
    peopled = [*place[:1], who, *place[1:]] if who else [*place, CHARACTER]
    prompts = [tags, peopled, *([*unlit, light, *(t for t in tags if t in empty)] for light in lights)]
    return [", ".join(prompt) for prompt in prompts]


def elsewhere_prompts(empty_words: str) -> list[str]:
    """Other places, without the scene's trigger: a LoRA that overpowers the prompt paints its own place there, too."""
    return [", ".join(filter(None, (words, empty_words))) for words in ELSEWHERE]


def _test(item: Item, tools: Tools, painter: Any) -> Outcome:
    settings, root, payload = item.settings, Path(tools.root), item.payload
    captions = [(root / text).read_text("utf-8").strip().split("\n")[0] for text in payload["texts"]]
    asked = _asked(item, tools, captions, settings["test.size"] or painter.size)
    side = asked.side
    grids = paint_grids(item, tools, painter, dict(payload["loras"]), asked)
    tools.progress(1, 1, "judging")
    trained = list(payload["plates"].values())
    held_out = plates_of(root, payload["held_out"], FOR_LIKENESS, side, painter)
    known = plates_of(root, [] if len(held_out) else trained, FOR_LIKENESS, side, painter)
    apart = views_of(root, payload["held_out"], FOR_LIKENESS, side, painter)
    plates = Plates(held_out, known, views_of(root, trained, FOR_COPIES, side, painter), apart)
    leaks = cache(partial(appearances.leaking, tools, root, payload["plates"]))
    every = [*trained, *payload["held_out"]]
    painted = cache(partial(plates_of, root, every, FOR_APPEARANCES, side, painter))
    data = Data(len(payload["plates"]), payload["copies"], payload["limits"], payload["remedies"], leaks, painted)
    judged = [judge(tools, grid, plates, data) for grid in grids]
    return _written(item, tools, judged, plates)


def _asked(item: Item, tools: Tools, captions: Sequence[str], side: int) -> Asked:
    """The settings' prompts or those made from captions, and who stands by where one asks for somebody."""
    settings, character = item.settings, item.payload["character"]
    file = Path(tools.root) / character
    trigger = composition.trigger_of(file) if character else ""
    who = composition.phrase(trigger, settings["compose.character_prompt"]) if character else ""
    prompts, elsewhere = list(settings["test.prompts"]), list[str]()
    if not prompts:
        words = settings["caption.empty_words"]
        elsewhere = elsewhere_prompts(words)
        prompts = [*default_prompts(captions, item.payload["lighting"], words, who), *elsewhere]
    names = settings["caption.character_names"]
    asking = appearances.asking_prompts(prompts, names, trigger)
    cast = [(file, settings["compose.character_scale"])] if character else []
    return Asked(prompts, side, asking, cast, range(len(prompts) - len(elsewhere), len(prompts)))


def _written(item: Item, tools: Tools, judged: Sequence[Judged], plates: Plates) -> Outcome:
    """The pictures of the LoRA to use, those of the others below `checkpoints/`, and all the figures."""
    scratch, home, chosen = Path(tools.scratch), f"grids/{item.name}", best(judged)
    outputs = write_grid(scratch, home, chosen.grid)
    for one in judged:
        if one is not chosen:
            outputs += write_grid(scratch, f"{home}/checkpoints/{_step(one.grid.step)}", one.grid)
    figures = scores(chosen, judged, plates, appearances.looker(tools.settings))
    about = {
        "trigger": item.payload["trigger"],
        "lora": chosen.grid.lora,
        "prompts": list(chosen.grid.prompts),
        "scales": list(chosen.grid.scales),
        "seeds": item.settings["test.seeds"],
        "character": item.payload["character"],
        "recommended_scale": chosen.scale,
        "verdict": list(chosen.verdict),
        **figures,
    }
    path = scratch / home / "scores.json"
    path.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", "utf-8", newline="\n")
    record = {
        "verdict": list(chosen.verdict),
        "recommended_scale": chosen.scale,
        "recommended_lora": chosen.grid.lora,
        "trained": item.payload["trained"],
        "scores": figures,
        "grid": f"{home}/grid.webp",
    }
    return Outcome(item.name, outputs=(*outputs, f"{home}/scores.json"), record=record)


def _step(step: int) -> str:
    return "final" if step == FINAL else f"{step:06d}"
