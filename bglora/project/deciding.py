"""What a person decides about a project, as methods of `Project`: written into decisions.toml, which the next run
heeds. Only a painted mask takes the place of the one in the project.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bglora.errors import UserError

if TYPE_CHECKING:
    from bglora.decisions import Decisions
    from bglora.engine.runner import Runner
    from bglora.engine.view import LedgerView
    from bglora.settings import Settings


class Deciding:
    """The part of `Project` that a person's hands use."""

    root: Path

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """The settings as they count now."""

    @property
    @abstractmethod
    def decisions(self) -> Decisions:
        """What was decided so far."""

    @abstractmethod
    def _runner(self, last: str = "") -> Runner:
        """The engine on the pipeline up to the stage `last`, or all of it."""

    @contextmanager
    def view(self) -> Iterator[LedgerView]:
        """What every stage recorded, to look at: `with project.view() as view: view.rows("inpaint")`."""
        with self._upto("") as view:
            yield view

    @contextmanager
    def _upto(self, last: str) -> Iterator[LedgerView]:
        """Likewise, where only the stages up to `last` count; later ones need not be imported."""
        with closing(self._runner(last).view()) as view:
            yield view

    def retry(self, *patterns: str, stage: str = "") -> None:
        """Failed items or pictures that match are tried again by the next run; without a pattern, all of them."""
        from bglora.project.names import check_stage
        from bglora.stages import NAMES

        check_stage(NAMES, stage)
        self.decisions.add_all(("retry", {"retry": pattern, "stage": stage}) for pattern in patterns or ("*",))

    def drop(self, *patterns: str, reason: str = "") -> None:
        """Takes pictures out of their scene. Raises `UserError` if a pattern matches none."""
        from bglora.project.names import check_pictures

        with self._upto("ingest") as view:
            check_pictures(view, patterns)
        self.decisions.add_all(("drop", {"drop": pattern, "reason": reason}) for pattern in patterns)

    def keep(self, *patterns: str) -> None:
        """Keeps pictures whatever their scores, or takes a drop back. Raises `UserError` if a pattern matches none."""
        from bglora.project.names import check_pictures

        with self._upto("ingest") as view:
            check_pictures(view, patterns)
        self.decisions.add_all(("keep", {"keep": pattern}) for pattern in patterns)

    def rename(self, scene: str, title: str) -> bool:
        """Gives a scene a title; its id stays. False if it is called so already."""
        from bglora.project.editing import title_line
        from bglora.project.names import check_scenes, title_of

        title = title_line(scene, title)
        with self._upto("cluster") as view:
            check_scenes(view, [scene])
            if title_of(view, scene) == title:
                return False
        self.decisions.add("rename", rename=scene, title=title)
        return True

    def merge(self, into: str, *scenes: str) -> None:
        """Makes one scene of several."""
        self._check_scenes(into, *scenes)
        others = [scene for scene in dict.fromkeys(scenes) if scene != into]
        if not others:
            raise UserError("A merge needs two scenes.", where=into, cure="Name the scene that stays, then the others.")
        self.decisions.add("merge", merge=others, into=into)

    def split(self, scene: str, *plates: str) -> None:
        """Makes a scene of its own from some plates of a scene."""
        from bglora.project.names import check_pictures

        self._check_scenes(scene)
        with self._upto("ingest") as view:
            check_pictures(view, plates)
        self.decisions.add("split", split=scene, plates=list(plates))

    def move(self, into: str, *plates: str) -> None:
        """Puts plates into a scene that is there, from another one or from none."""
        from bglora.project.names import check_pictures

        self._check_scenes(into)
        with self._upto("ingest") as view:
            check_pictures(view, plates)
        self.decisions.add("move", move=list(plates), into=into)

    def caption(self, plate: str, text: str) -> None:
        """Gives a plate a caption that outlives every re-run; an empty one gives it back to the captioner.

        The trigger need not be in it: the plate's scene gives it.
        """
        from bglora.project.editing import caption

        caption(self, {plate: text})

    def choose(self, scene: str, checkpoint: str = "", scale: float = 0.0) -> None:
        """Has `compose` paint a scene with this LoRA file of `train` and at this scale.

        An empty file and 0 stand for what `test` recommends. Raises `UserError` if the scene has no such file.
        """
        from bglora.project.editing import choose

        choose(self, scene, checkpoint, scale)

    def point_out(self, frame: str, *, box: Sequence[float] = (), points: Sequence[Sequence[float]] = ()) -> None:
        """Points somebody out in a frame for `segment`: by a box around him, or points on and beside him.

        Raises `UserError` where the masks backend can't be told.
        """
        from bglora.project.editing import point_out

        point_out(self, frame, box, points)

    def edit_mask(self, frame: str, png: bytes) -> None:
        """Puts a mask that a person painted in place of the one that `segment` made: 0, 128 effect, 255 object."""
        from bglora.project.editing import edit_mask

        edit_mask(self, frame, png)

    def _check_scenes(self, *scenes: str) -> None:
        from bglora.project.names import check_scenes

        with self._upto("cluster") as view:
            check_scenes(view, scenes)
