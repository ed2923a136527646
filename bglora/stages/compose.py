"""`compose`: characters and backgrounds in one picture, with the recipe to paint it again elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bglora.backends.paint.recipes import Recipe, comfy_workflow
from bglora.engine.stage import Item, Outcome, Stage, Stopped, Tools, View
from bglora.errors import UserError
from bglora.stages.test import backgrounds, painter_identity, shared_painter, trained_loras
from bglora.stages.train import scene_data, shown_base


class Compose(Stage):
    name: ClassVar[str] = "compose"
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ("inpaint", "cluster", "caption", "train")
    home: ClassVar[str] = "compositions"
    parallel: ClassVar[bool] = False

    def items(self, view: View) -> Iterable[Item]:
        """One for each trained background."""
        loras = trained_loras(view)
        settings = view.settings
        chosen = {f"compose.{key}": value for key, value in settings.compose.model_dump(mode="json").items()}
        characters = _character_files(view.root, settings.compose.characters)
        identity = painter_identity(view.root, settings)
        for name, data, lora in backgrounds(scene_data(view), loras):
            text = data.pictures[len(data.pictures) // 2]["text"]
            yield Item(
                name=name,
                pictures=tuple(f"{name}-{number}" for number in range(settings.compose.pictures)),
                files=(lora, text, *characters),
                settings={
                    **chosen,
                    "train.threads": settings.train.threads,
                    "train.base": settings.train.base,
                    "caption.empty_words": settings.caption.empty_words,
                },
                payload={"lora": lora, "text": text, "characters": list(characters)},
                backend=identity,
            )

    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        """Paints the pictures of one background."""
        from bglora.training.base import exact

        if tools.stopping():
            raise Stopped(item.name)
        with exact(int(item.settings["train.threads"])):
            painter = shared_painter(tools)
            try:
                yield from _compose(item, tools, painter)
            finally:
                painter.close()


def _character_files(root: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Character LoRAs as written: relative to the project, or absolute."""
    for name in names:
        if not (root / name).is_file():
            raise UserError(
                "There is no character LoRA at this path.",
                where=f"compose.characters: {name}",
                cure="Give the path of a .safetensors file, relative to the project or absolute.",
            )
    return tuple(Path(name).as_posix() for name in names)


def default_prompt(caption: str, character: str, empty_words: str) -> str:
    """The scene's caption with a character in it: after the trigger, and without the words that say nobody is there."""
    empty = {tag.strip() for tag in empty_words.split(",")}
    tags = [tag.strip() for tag in caption.split(",") if tag.strip() and tag.strip() not in empty]
    return ", ".join([*tags[:1], *([character] if character else []), *tags[1:]])


def _compose(item: Item, tools: Tools, painter: Any) -> Iterator[Outcome]:
    settings = item.settings
    recipes = _recipes(item, tools, painter)
    adapters = _adapters(item, Path(tools.root))
    names = ", ".join(path.name for path, _ in adapters)
    tools.progress(0, 1, f"painting with {names}")
    first = recipes[0]
    pictures = painter.paint(
        [recipe.prompt for recipe in recipes],
        first.negative_prompt,
        [recipe.seed for recipe in recipes],
        first.size,
        first.steps,
        first.guidance_scale,
        adapters,
        schedule=in_turn([scale for _, scale in adapters]) if settings["compose.mode"] == "switch" else None,
    )
    for number, (recipe, picture) in enumerate(zip(recipes, pictures, strict=True)):
        name = f"{item.name}-{number}"
        outputs = _write(Path(tools.scratch), name, recipe, picture)
        yield Outcome(name, outputs=outputs, record={"scene": item.name, **recipe.to_json()})


def in_turn(scales: Sequence[float]) -> Any:
    """Scales at denoising step i: the adapters act one at a time, in turn (LoRA Switch, Zhong et al. 2024)."""

    def at(step: int) -> list[float]:
        return [scale if number == step % len(scales) else 0.0 for number, scale in enumerate(scales)]

    return at


def _adapters(item: Item, root: Path) -> list[tuple[Path, float]]:
    """Characters first, then the background, each with its scale."""
    settings = item.settings
    characters = [(root / name, settings["compose.character_scale"]) for name in item.payload["characters"]]
    return [*characters, (root / item.payload["lora"], settings["compose.background_scale"])]


def _recipes(item: Item, tools: Tools, painter: Any) -> list[Recipe]:
    settings = item.settings
    caption = (Path(tools.root) / item.payload["text"]).read_text("utf-8").strip().split("\n")[0]
    prompt = settings["compose.prompt"] or default_prompt(
        caption, settings["compose.character_prompt"], settings["caption.empty_words"]
    )
    side = settings["compose.size"] or painter.size
    return [
        Recipe(
            prompt=prompt,
            negative_prompt=settings["compose.negative_prompt"],
            seed=tools.seed + number,
            steps=settings["compose.steps"],
            guidance_scale=settings["compose.guidance_scale"],
            size=(side, side),
            base=shown_base(settings["train.base"]),
            sampler=painter.sampler,
            loras=tuple((path.name, scale) for path, scale in _adapters(item, Path(tools.root))),
            mode=settings["compose.mode"],
        )
        for number in range(settings["compose.pictures"])
    ]


def _write(scratch: Path, name: str, recipe: Recipe, picture: np.ndarray) -> tuple[str, str]:
    """The picture with its recipe, A1111's line and ComfyUI's workflow in its metadata; and the workflow alone."""
    home = scratch / "compositions"
    home.mkdir(parents=True, exist_ok=True)
    workflow = comfy_workflow(recipe)
    info = PngInfo()
    info.add_itxt("bglora", json.dumps(recipe.to_json(), ensure_ascii=False))
    info.add_itxt("parameters", recipe.a1111())
    info.add_itxt("workflow", json.dumps(workflow, ensure_ascii=False))
    Image.fromarray(picture).save(home / f"{name}.png", pnginfo=info)
    text = json.dumps(workflow, indent=1, ensure_ascii=False) + "\n"
    (home / f"{name}.json").write_text(text, "utf-8", newline="\n")
    return f"compositions/{name}.png", f"compositions/{name}.json"
