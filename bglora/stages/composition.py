"""One composition: its recipe, its painting, its files. The stage `compose` and painting again share it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bglora.backends.paint import comfy, regions
from bglora.backends.paint.recipes import Lora, Recipe, Region
from bglora.errors import UserError

HOME = "compositions"
CHUNK = "bglora"
"""The PNG text that holds the recipe."""


@dataclass(frozen=True)
class Character:
    """Who stands in a picture.

    Attributes:
        file: the LoRA, relative to the project or absolute; None: words alone.
        phrase: its trigger and words in the prompt.
    """

    file: str | None
    phrase: str


def default_prompt(caption: str, characters: Sequence[str], empty_words: str) -> str:
    """The scene's caption with characters in it: after the trigger, and without the words that say nobody is there."""
    empty = {tag.strip() for tag in empty_words.split(",")}
    tags = [tag.strip() for tag in caption.split(",") if tag.strip() and tag.strip() not in empty]
    return ", ".join([*tags[:1], *(words for words in characters if words), *tags[1:]])


def sha256(path: Path) -> str:
    """Of a file's content.

    Raises:
        UserError: it can't be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"A LoRA file can't be read: {error.strerror}.", where=str(path), cure="Check that it is there and yours."
        ) from None


def shown_path(file: str) -> str:
    """A path as a recipe may tell it: relative to the project, or the name alone."""
    return file if not Path(file).is_absolute() and ".." not in Path(file).parts else Path(file).name


def trigger_of(path: Path) -> str:
    """The trigger that a LoRA's metadata name; empty where they don't.

    Raises:
        UserError: it is no LoRA.
    """
    from bglora.training.lora_file import read_metadata

    return read_metadata(path).get("modelspec.trigger_phrase", "").strip()


def phrase(trigger: str, words: str) -> str:
    """A character's trigger and words, as they stand in a prompt."""
    return ", ".join(part for part in (trigger, words) if part)


def paint(painter: Any, recipe: Recipe, files: Sequence[Path]) -> tuple[np.ndarray, dict[str, float]]:
    """The picture, uint8 (H, W, 3), and in mode regional how far it is from the place alone outside of the regions.

    Pictures are painted one at a time: together they would differ in their last bits.

    Args:
        files: the recipe's LoRAs.
    """
    adapters = [(file, lora.scale) for file, lora in zip(files, recipe.loras, strict=True)]
    how = recipe.negative_prompt, recipe.seed, recipe.size, recipe.steps, recipe.guidance_scale, adapters
    if recipe.mode == "regional":
        return _paint_regional(painter, recipe, files, how)
    schedule = in_turn([lora.scale for lora in recipe.loras]) if recipe.mode == "switch" else None
    negative, seed, *rest = how
    return painter.paint([recipe.prompt], negative, [seed], *rest, schedule=schedule)[0], {}


def in_turn(scales: Sequence[float]) -> Any:
    """Scales at denoising step i: the adapters act one at a time, in turn (LoRA Switch, Zhong et al. 2024)."""

    def at(step: int) -> list[float]:
        return [scale if number == step % len(scales) else 0.0 for number, scale in enumerate(scales)]

    return at


def _paint_regional(
    painter: Any, recipe: Recipe, files: Sequence[Path], how: tuple[Any, ...]
) -> tuple[np.ndarray, dict[str, float]]:
    from bglora.backends.paint.diffusers import Layout

    masks = [regions.from_text(region.mask) for region in recipe.regions]
    inside = np.max(masks, axis=0)
    own = {file: masks[lora.region] for file, lora in zip(files, recipe.loras, strict=True) if lora.region is not None}
    made = painter.compose(recipe.prompt, *how, Layout(recipe.place_prompt, inside, own))
    away = np.abs(made.picture.astype(int) - made.place)[inside == 0]
    if not away.size:
        return made.picture, {}
    return made.picture, {"mean": round(float(away.mean()), 4), "p99": round(float(np.quantile(away, 0.99)), 2)}


def with_regions(
    painter: Any, recipe: Recipe, files: Sequence[Path], given: Sequence[str], cast: Sequence[Character], how: Any
) -> Recipe:
    """The recipe with its regions found.

    Args:
        given: regions as the settings say them: one for all characters, or one for each.
        how: `root` of the project and the settings' `feather`.
    """
    root, feather = how
    asked = list(given) if len(given) > 1 else [given[0]] * max(1, len(cast))
    looks: list[Any] = [None] * len(asked)
    if regions.ATTENTION in asked:
        looks = _looks(painter, recipe, files, cast)
    found = []
    for text, who, look in zip(asked, cast, looks, strict=True):
        box, picture = (None, None) if text == regions.ATTENTION else (regions.as_box(text), regions.check(text, root))
        if box is not None:
            mask = regions.from_box(box, recipe.size)
        elif picture is not None:
            mask = regions.from_picture(picture, recipe.size, text)
        elif look is None:
            raise UserError(
                "The words of the character are not in the prompt, so attention can't find where it stands.",
                where=f"compose.region = attention; {who.phrase!r} in {recipe.prompt!r}",
                cure="Put them into compose.prompt, or give a box or a mask picture as compose.region.",
            )
        else:
            mask = regions.from_attention(look, recipe.size)
        found.append(Region(shown_path(text), regions.as_text(regions.feathered(mask, feather))))
    return replace(recipe, regions=tuple(found))


def _looks(painter: Any, recipe: Recipe, files: Sequence[Path], cast: Sequence[Character]) -> list[Any]:
    adapters = [(file, lora.scale) for file, lora in zip(files, recipe.loras, strict=True)]
    how = recipe.negative_prompt, recipe.seed, recipe.size, recipe.steps, recipe.guidance_scale, adapters
    looks: list[Any] = painter.attention(recipe.prompt, [who.phrase for who in cast], *how)
    return looks


def write(scratch: Path, name: str, recipe: Recipe, picture: np.ndarray) -> tuple[str, ...]:
    """The picture with its recipe, A1111's line and ComfyUI's workflow in its metadata; the workflow alone; and the
    masks of regions that are no boxes, which the workflow loads. Paths relative to `scratch`."""
    home = scratch / HOME
    home.mkdir(parents=True, exist_ok=True)
    masks = mask_names(recipe, [f"{name}-region{number}.png" for number in range(len(recipe.regions))])
    for file, region in zip(masks, recipe.regions, strict=True):
        if file:
            mask = np.round(regions.from_text(region.mask) * 255).astype(np.uint8)
            Image.fromarray(mask).convert("RGB").save(home / file)
    workflow = comfy.workflow(recipe, masks)
    text = json.dumps(workflow, indent=1, ensure_ascii=False) + "\n"
    (home / f"{name}.json").write_text(text, "utf-8", newline="\n")
    write_picture(home / f"{name}.png", recipe, picture, workflow)
    return f"{HOME}/{name}.png", f"{HOME}/{name}.json", *(f"{HOME}/{file}" for file in masks if file)


def write_picture(path: Path, recipe: Recipe, picture: np.ndarray, workflow: Any) -> None:
    """A PNG with everything that it takes to paint it again."""
    info = PngInfo()
    info.add_itxt(CHUNK, json.dumps(recipe.to_json(), ensure_ascii=False))
    info.add_itxt("parameters", recipe.a1111())
    info.add_itxt("workflow", json.dumps(workflow, ensure_ascii=False))
    Image.fromarray(picture).save(path, pnginfo=info)


def mask_names(recipe: Recipe, names: Sequence[str]) -> list[str]:
    """The names of the regions' mask pictures; "" for boxes, which need none."""
    return [
        "" if regions.as_box(region.given) is not None else name
        for region, name in zip(recipe.regions, names, strict=True)
    ]


def lora(root: Path, file: str, scale: float, role: Any, region: int | None = None, why: str = "") -> Lora:
    """A LoRA as a recipe tells it."""
    return Lora(shown_path(file), scale, role, sha256(root / file), region, why)
