"""Words for the empty place: which prompt a shot's holes are filled by, where the engine reads words at all.

`inpaint.prompts` maps patterns of shots (`harbor-s00*`) or ids of scenes (`scene-00`) to prompts; the first one that
fits counts, else `inpaint.prompt`. `{title}` stands for the scene's title where a person gave it one, else it is left
out: titles that the program makes up by itself would change with every clustering, and the plates with them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from bglora.engine.stage import View
from bglora.stages.scenes import read_scenes

SCENES = "scenes/scenes.json"
TITLE = "{title}"


def prompts_of(view: View) -> Prompts:
    """The prompts of a project's shots by its settings, its last clustering and its decisions."""
    settings = view.settings.inpaint
    speaks_of_scenes = TITLE in settings.prompt or any(
        TITLE in prompt or re.fullmatch(r"scene-\d+", key) for key, prompt in settings.prompts.items()
    )
    scenes = _scene_of_shots(view.root / SCENES) if speaks_of_scenes else {}
    return Prompts(settings.prompt, settings.prompts, scenes, view.decisions.renames())


class Prompts:
    """Which words go with which shot.

    Args:
        prompt: for shots that no pattern fits.
        by_pattern: pattern of a shot or id of a scene to its prompt; the first that fits counts.
        scenes: shot to the id of the scene that most of its plates are in.
        titles: scene id to the title that a person gave it.
    """

    def __init__(
        self, prompt: str, by_pattern: Mapping[str, str], scenes: Mapping[str, str], titles: Mapping[str, str]
    ) -> None:
        self.prompt, self.by_pattern, self.scenes, self.titles = prompt, by_pattern, scenes, titles

    def of(self, shot: str) -> str:
        """The prompt of a shot."""
        scene = self.scenes.get(shot, "")
        fitting = (text for key, text in self.by_pattern.items() if fnmatchcase(shot, key) or (scene and key == scene))
        text = next(fitting, self.prompt)
        return _with_title(text, self.titles.get(scene, ""))


def _with_title(text: str, title: str) -> str:
    """The text with the title in its place; a tag that was nothing but the title goes with it."""
    if TITLE not in text:
        return text
    tags = [tag.strip().replace(TITLE, title).strip() for tag in text.split(",")]
    return ", ".join(tag for tag in tags if tag)


def _scene_of_shots(path: Path) -> dict[str, str]:
    """Shot to the scene that most of its plates are in, as the last clustering left it; empty before the first."""
    scenes = read_scenes(path).get("scenes", ())
    plates = [(plate.rpartition("/")[0], scene["id"]) for scene in scenes for plate in scene["plates"]]
    counts: dict[str, dict[str, int]] = {}
    for shot, scene in plates:
        of_shot = counts.setdefault(shot, {})
        of_shot[scene] = of_shot.get(scene, 0) + 1
    return {shot: max(sorted(of), key=of.__getitem__) for shot, of in counts.items()}
