"""Painting a composition again from the recipe in its PNG, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from bglora import backends
from bglora.backends.paint import comfy, regions
from bglora.backends.paint.recipes import Lora, Recipe
from bglora.errors import UserError
from bglora.stages import composition
from bglora.stages.test import painter_identity
from bglora.stages.train import located_base, shown_base

CURE = "Give a PNG that bglora compose wrote, not one that another program saved again."


@dataclass(frozen=True)
class Again:
    """A picture that was painted again. `changed`: pixels that differ from the one it was made from; 0: bit-equal."""

    path: Path
    recipe: Recipe
    changed: int

    def to_json(self) -> dict[str, Any]:
        return {"path": str(self.path), "changed_pixels": self.changed, "recipe": self.recipe.to_json()}


def read(path: Path) -> tuple[Recipe, np.ndarray]:
    """The recipe in a picture, and its pixels.

    Raises:
        UserError: there is no picture or no recipe in it.
    """
    if not path.is_file():
        raise UserError("There is no picture at this path.", where=str(path), cure=CURE)
    try:
        with Image.open(path) as picture:
            text = getattr(picture, "text", {}).get(composition.CHUNK)
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError("The picture can't be read.", where=str(path), cure=CURE) from error
    if not text:
        raise UserError("The picture has no recipe in it.", where=str(path), cure=CURE)
    try:
        recipe = Recipe.from_json(json.loads(text))
        for region in recipe.regions:
            if regions.from_text(region.mask).shape != recipe.size:
                raise ValueError("a region has another size than the picture")
        return recipe, pixels
    except (ValueError, OSError, Image.DecompressionBombError) as error:
        raise UserError(
            f"The recipe in the picture can't be read: {error}.",
            where=str(path),
            cure="Paint it with the bglora that made it, or compose it anew: bglora compose",
        ) from error


def paint_again(root: Path, settings: Any, picture: Path, to: Path | None = None) -> Again:
    """Paints a composition again from its recipe alone: of the settings only base and LoRA files count.

    Args:
        to: where the picture goes; None: beside the first one, `NAME-again.png`.

    Raises:
        UserError: no recipe, another base, a LoRA that is not there or has another content.
    """
    from bglora.training.base import exact

    recipe, before = read(picture)
    _same_base(root, settings, recipe)
    files = [_file(root, settings, lora) for lora in recipe.loras]
    target = to or picture.with_name(f"{picture.stem}-again.png")
    located = settings.train.model_copy(update={"base": located_base(root, settings.train.base)})
    with exact(recipe.threads):
        painter = backends.module("paint", "diffusers").create(located, memory=settings.compose.memory)
        try:
            made, _ = composition.paint(painter, recipe, files)
        finally:
            painter.close()
    target.parent.mkdir(parents=True, exist_ok=True)
    masks = [f"{picture.stem}-region{number}.png" for number in range(len(recipe.regions))]
    composition.write_picture(target, recipe, made, comfy.workflow(recipe, composition.mask_names(recipe, masks)))
    changed = int((made != before).any(axis=-1).sum()) if made.shape == before.shape else made[..., 0].size
    return Again(target, recipe, changed)


def _same_base(root: Path, settings: Any, recipe: Recipe) -> None:
    here = painter_identity(root, settings)
    if here != recipe.painter:
        raise UserError(
            "The picture was painted with another base model, or another revision of it or of bglora.",
            where=f"its recipe: {recipe.base}, {recipe.painter}; here: {shown_base(settings.train.base)}, {here}",
            cure="`bglora set train.base` to the recipe's; with another revision, compose it anew: bglora compose",
        )


def _file(root: Path, settings: Any, lora: Lora) -> Path:
    """The file with a LoRA's content: where the recipe says, else by its name or content among the project's.

    Raises:
        UserError: it is not there, or its content is another.
    """
    named = [path for path in _places(root, settings, lora) if path.is_file()]
    for path in named:
        if composition.sha256(path) == lora.sha256:
            return path
    for path in sorted((root / "loras").glob("*.safetensors")):
        if composition.sha256(path) == lora.sha256:
            return path
    if named:
        raise UserError(
            f"The LoRA {lora.name} has another content than when the picture was painted.",
            where=f"{named[0]}: sha256 {composition.sha256(named[0])[:12]}, in the recipe {lora.sha256[:12]}",
            cure="Bring back the file of that time, or compose with the new one: bglora compose",
        )
    raise UserError(
        f"The LoRA {lora.name}, with which the picture was painted, is not here.",
        where=f"{lora.file}, sha256 {lora.sha256[:12]}",
        cure=f"Copy it to {root / 'loras'}, or name its file in compose.characters or compose.others.",
    )


def _places(root: Path, settings: Any, lora: Lora) -> Iterable[Path]:
    if not Path(lora.file).is_absolute() and ".." not in Path(lora.file).parts:  # a picture may come from anywhere
        yield root / lora.file
    yield root / "loras" / lora.name
    for name in (*settings.compose.characters, *settings.compose.others):
        if Path(name).name == lora.name:
            yield root / name
