"""Words for the engines that paint by words: which prompt a shot gets, and what is not to be painted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bglora.stages.scenes import read_scenes

if TYPE_CHECKING:
    from bglora.settings.plates import InpaintSettings

TITLE = "{title}"
SCENES = Path("scenes") / "scenes.json"


def prompt_of(settings: InpaintSettings, shot: str, scene: Mapping[str, str] | None = None) -> str:
    """The prompt of a shot: the first of `prompts` whose pattern fits the shot, its scene or the scene's title, else
    `prompt`; with the scene's title in the place of {title}, or without the words between the commas around it where
    no scene is known yet.

    Args:
        scene: id and title, `{"id", "title"}`.
    """
    scene = scene or {}
    names = [shot, *(scene[key] for key in ("id", "title") if scene.get(key))]
    fits = (words for pattern, words in settings.prompts.items() if any(fnmatchcase(name, pattern) for name in names))
    words = next(fits, settings.prompt)
    if TITLE not in words:
        return words
    if scene.get("title"):
        return words.replace(TITLE, scene["title"])
    return ", ".join(part.strip() for part in words.split(",") if TITLE not in part)


def negative_of(settings: InpaintSettings, names: Iterable[str]) -> str:
    """The negative prompt with the names of the film's characters that are not in it yet."""
    told = {part.strip().lower() for part in settings.negative_prompt.split(",")}
    new = [name.strip() for name in names if name.strip() and name.strip().lower() not in told]
    return ", ".join(filter(None, [settings.negative_prompt, *dict.fromkeys(new)]))


def speaks_of_scenes(settings: InpaintSettings) -> bool:
    """Whether a prompt may depend on the scene that a shot is in."""
    return TITLE in settings.prompt or bool(settings.prompts)


def scenes_file(root: Path, settings: InpaintSettings) -> str:
    """The scenes as the last clustering left them, as text to compare with; empty where no prompt asks or there are
    none yet.
    """
    path = root / SCENES
    return path.read_text("utf-8") if speaks_of_scenes(settings) and path.exists() else ""


def scenes_of_shots(root: Path, settings: InpaintSettings) -> dict[str, dict[str, str]]:
    """The scene that most plates of a shot are in, by the clustering before, shot by shot; empty where no prompt asks.

    A film is clustered after its plates are made, so the first run knows no scene. A scene that is renamed afterwards
    makes the shots anew whose prompts name its title. Raises `UserError` if scenes.json can't be read.
    """
    if not speaks_of_scenes(settings):
        return {}
    scenes = read_scenes(root / SCENES).get("scenes", ())
    found = [(plate.rpartition("/")[0], one) for one in scenes for plate in one["plates"]]
    counts = Counter((shot, one["id"], one["title"]) for shot, one in found)
    best: dict[str, dict[str, str]] = {}
    for (shot, scene, title), _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        best.setdefault(shot, {"id": scene, "title": _plain(title)})
    return best


def _plain(title: Any) -> str:
    """A title as words of a prompt: parentheses and colons, which weigh words elsewhere, are gone."""
    return re.sub(r"[():\[\]{}]", " ", str(title)).strip()
