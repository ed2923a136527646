"""`compose`: characters and backgrounds in one picture, with the recipe to paint it again elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from bglora.backends.paint import regions
from bglora.backends.paint.recipes import Recipe
from bglora.engine.stage import Item, Outcome, Stage, Stopped, Tools, View
from bglora.errors import UserError
from bglora.stages import composition
from bglora.stages.characters import PREFIX
from bglora.stages.chosen import lora_for
from bglora.stages.composition import Character
from bglora.stages.test import backgrounds, painter_identity, shared_painter, trained_loras
from bglora.stages.train import SceneData, scene_data, shown_base


class Compose(Stage):
    name: ClassVar[str] = "compose"
    version: ClassVar[int] = 3
    reads: ClassVar[tuple[str, ...]] = ("inpaint", "cluster", "caption", "train")
    heeds: ClassVar[tuple[str, ...]] = ("test",)
    home: ClassVar[str] = "compositions"
    parallel: ClassVar[bool] = False

    def items(self, view: View) -> Iterable[Item]:
        """One for each background."""
        loras = trained_loras(view)
        settings = view.settings
        chosen = {f"compose.{key}": value for key, value in settings.compose.model_dump(mode="json").items()}
        casts = _casts(view.root, settings.compose, loras)
        masks = _mask_pictures(view.root, settings.compose, casts)
        identity = painter_identity(view.root, settings)
        for name, data, lora in _backgrounds(view, settings.compose.backgrounds, loras):
            text = data.pictures[len(data.pictures) // 2]["text"]
            others = list(settings.compose.others)
            used = lora_for(view, name, lora)
            files = (used.file, text, *others, *masks, *(file for cast in casts for file in cast))
            yield Item(
                name=name,
                pictures=tuple(_names(name, settings.compose.pictures, settings.compose.sweep)),
                files=tuple(sorted(set(files))),
                settings={
                    **chosen,
                    "train.threads": settings.train.threads,
                    "train.base": settings.train.base,
                    "caption.empty_words": settings.caption.empty_words,
                },
                payload={"lora": used.file, "scale": used.scale, "why": used.why, "text": text, "casts": casts},
                backend=identity,
            )

    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        """Paints the pictures of one background."""
        from bglora.training.base import exact

        with exact(int(item.settings["train.threads"])):
            painter = shared_painter(tools)
            try:
                yield from _compose(item, tools, painter)
            finally:
                painter.close()


def _names(scene: str, pictures: int, sweep: Sequence[float]) -> list[str]:
    """`scene-00-0`, or with a sweep `scene-00-0-at050`."""
    ends = [f"-at{round(scale * 100):03d}" for scale in sweep] or [""]
    return [f"{scene}-{number}{end}" for number in range(pictures) for end in ends]


def _backgrounds(view: View, wanted: Sequence[str], loras: Mapping[str, str]) -> list[tuple[str, SceneData, str]]:
    """What to compose with: an item's name, the scene, its LoRA file.

    Raises:
        UserError: one that is asked for has no LoRA.
    """
    there = list(backgrounds(scene_data(view), loras))
    names = {name for item, data, _ in there for name in (item, data.scene)}
    for name in wanted:
        if name not in names:
            raise UserError(
                f"There is no background LoRA of {name!r}.",
                where=f"compose.backgrounds; trained: {', '.join(sorted(names)) or 'none'}",
                cure="Name one of these, or train it: bglora train",
            )
    return [one for one in there if not wanted or {one[0], one[1].scene} & set(wanted)]


def _casts(root: Path, settings: Any, loras: Mapping[str, str]) -> list[list[str]]:
    """LoRA files of the characters by picture, in turn: those that the settings name together, else each own one."""
    own = {name.removeprefix(PREFIX): file for name, file in sorted(loras.items()) if name.startswith(PREFIX)}
    for name in settings.others:
        _there(root, name, "compose.others", "LoRA")
    if not settings.characters:
        return [[file] for file in own.values()] or [[]]
    files = []
    for name in settings.characters:
        if not name.endswith(".safetensors"):
            if name not in own:
                raise UserError(
                    f"There is no character LoRA of the name {name!r}.",
                    where=f"compose.characters; trained: {', '.join(own) or 'none'}",
                    cure=f"Train it: bglora train --character {name}; or give a .safetensors file.",
                )
            files.append(own[name])
        else:
            _there(root, name, "compose.characters", "character LoRA")
            files.append(Path(name).as_posix())
    return [files]


def _there(root: Path, name: str, key: str, what: str) -> None:
    """LoRA files as written: relative to the project, or absolute."""
    if not (root / name).is_file():
        raise UserError(
            f"There is no {what} at this path.",
            where=f"{key}: {name}",
            cure="Give the path of a .safetensors file, relative to the project or absolute.",
        )


def _mask_pictures(root: Path, settings: Any, casts: Sequence[Sequence[str]]) -> list[str]:
    """Mask pictures that the regions name; all regions are looked through before anything is painted."""
    if settings.mode != "regional":
        return []
    most = max(1, *(len(cast) for cast in casts))
    if len(settings.region) not in (1, most):
        raise UserError(
            f"There are {len(settings.region)} regions for {most} characters.",
            where="compose.region",
            cure="Give one region for all characters, or one for each, in the order of compose.characters.",
        )
    return [text for text in settings.region if regions.check(text, root) is not None]


def _compose(item: Item, tools: Tools, painter: Any) -> Iterator[Outcome]:
    settings = item.settings
    sweep = settings["compose.sweep"] or [item.payload["scale"]]
    names = iter(item.pictures)
    sheet: list[list[list[Any]]] = []
    rows: list[str] = []
    outcomes: list[Outcome] = []
    for number in range(settings["compose.pictures"]):
        first, files = _recipe(item, tools, painter, number)
        rows.append(first.prompt)
        sheet.append([])
        for scale in sweep:
            name = next(names)
            if tools.stopping():
                raise Stopped(name)
            tools.progress(len(outcomes), len(item.pictures), f"painting {name}")
            recipe = _scaled(first, scale) if settings["compose.sweep"] else first
            picture, outside = composition.paint(painter, recipe, files)
            outputs = composition.write(Path(tools.scratch), name, recipe, picture)
            told = {key: value for key, value in recipe.to_json().items() if key != "regions"}
            told["regions"] = [region.given for region in recipe.regions]
            record = {"scene": item.name, **told, **({"outside": outside} if outside else {})}
            outcomes.append(Outcome(name, outputs=outputs, record=record))
            sheet[-1].append([picture])
    if len(sweep) > 1:
        path = _write_sheet(Path(tools.scratch), item.name, sheet, rows, sweep)
        outcomes[0] = replace(outcomes[0], outputs=(*outcomes[0].outputs, path))
    yield from outcomes


def _scaled(recipe: Recipe, scale: float) -> Recipe:
    """The recipe with another scale of the background."""
    why = "scale by compose.sweep"
    loras = tuple(replace(lora, scale=scale, why=why) if lora.role == "background" else lora for lora in recipe.loras)
    return replace(recipe, loras=loras)


def _recipe(item: Item, tools: Tools, painter: Any, number: int) -> tuple[Recipe, list[Path]]:
    """The recipe of one picture, regions and all, and its LoRAs' files: characters, the background, others."""
    settings, root = item.settings, Path(tools.root)
    casts = item.payload["casts"]
    words = settings["compose.character_prompt"]
    cast = [Character(file, _phrase(root / file, words)) for file in casts[number % len(casts)]]
    cast = cast or [Character(None, words)]
    regional = settings["compose.mode"] == "regional"
    caption = (root / item.payload["text"]).read_text("utf-8").strip().split("\n")[0]
    side = settings["compose.size"] or painter.size
    named = [
        *((one.file, settings["compose.character_scale"], "character", i) for i, one in enumerate(cast) if one.file),
        (item.payload["lora"], item.payload["scale"], "background", None),
        *((file, scale, "other", None) for file, scale in settings["compose.others"].items()),
    ]
    recipe = Recipe(
        prompt=settings["compose.prompt"]
        or composition.default_prompt(caption, [one.phrase for one in cast], settings["caption.empty_words"]),
        negative_prompt=settings["compose.negative_prompt"],
        seed=tools.seed + number,
        steps=settings["compose.steps"],
        guidance_scale=settings["compose.guidance_scale"],
        size=(side, side),
        base=shown_base(settings["train.base"]),
        loras=tuple(
            composition.lora(
                root,
                file,
                scale,
                role,
                region if regional else None,
                item.payload["why"] if role == "background" else "",
            )
            for file, scale, role, region in named
        ),
        mode=settings["compose.mode"],
        sampler=painter.sampler,
        painter=item.backend,
        threads=int(settings["train.threads"]),
        place_prompt=(settings["compose.place_prompt"] or caption) if regional else "",
    )
    files = [root / file for file, *_ in named]
    if regional:
        how = root, settings["compose.feather"]
        recipe = composition.with_regions(painter, recipe, files, settings["compose.region"], cast, how)
    return recipe, files


def _phrase(file: Path, words: str) -> str:
    """The character's trigger and words, as they stand in the default prompt."""
    return composition.phrase(composition.trigger_of(file), words)


def _write_sheet(scratch: Path, scene: str, sheet: Any, rows: Sequence[str], sweep: Sequence[float]) -> str:
    """All pictures of a sweep side by side: a row a picture, a column a scale."""
    from bglora.backends.paint.sheet import contact_sheet

    path = f"{composition.HOME}/{scene}-sweep.webp"
    columns = [f"background {scale:g}" for scale in sweep]
    thumb = min(256, max(sheet[0][0][0].shape[:2]))
    contact_sheet(sheet, rows, columns, thumb).save(scratch / path, quality=92, method=4)
    return path
