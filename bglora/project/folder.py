"""A project folder as an object: run, looked at, decided about. What the commands do, as methods."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bglora.engine.events import Listener, silent
from bglora.errors import UserError
from bglora.project import readiness, workers
from bglora.project.deciding import Deciding
from bglora.project.workers import RETRIES, SILENCE

if TYPE_CHECKING:
    from bglora.decisions import Decisions
    from bglora.engine.runner import Plan, Runner, RunRequest, RunResult, StageStatus
    from bglora.project.cleaning import Cleanable
    from bglora.project.decided import Decided
    from bglora.project.memory import Need
    from bglora.settings import Settings
    from bglora.stages.again import Again
    from bglora.stages.comparing import Comparison
    from bglora.stages.forecasting import Left
    from bglora.stages.foresight import Demand
    from bglora.training.forecast import Forecast


EXECUTORS = ("local", "ray")


@dataclass
class Project(Deciding):
    """A project folder. Made by `bglora.open` and `bglora.init`.

    Attributes:
        root: the folder, absolute.
        given: settings of this time only, `("inpaint.engine=patch",)`.
        listener: is called with each event of a run.
        jobs: processes; 0 means as many as there are cores.
        watching: `status`, `view` and `plan` never take the project's lock, so that a run may start at any moment.
    """

    root: Path
    given: tuple[str, ...] = ()
    listener: Listener = field(default=silent, repr=False)
    jobs: int = 0
    watching: bool = False

    # What it is

    @property
    def settings(self) -> Settings:
        """The settings as they count now, read anew. Raises `SettingsError` with all mistakes at once."""
        from bglora.settings.manifest import load

        return load(self.root, self.given)

    @property
    def decisions(self) -> Decisions:
        """What a person decided, read anew."""
        from bglora.decisions import Decisions

        return Decisions.load(self.root)

    def get(self, key: str) -> Any:
        """The value of a setting (`"inpaint.steps"`) or table (`"inpaint"`), as JSON values."""
        from bglora.settings.edit import get_value

        return get_value(self.root, key, self.given)[0]

    def set(self, key: str, value: Any) -> list[str]:
        """Changes a setting in project.toml; comments and order stay. Returns the keys that changed.

        `value` is a Python value, or text as it would be typed after `bglora set`.
        """
        from bglora.settings.edit import set_value, toml_literal

        return set_value(self.root, key, value if isinstance(value, str) else toml_literal(value))

    # What it does

    def run(
        self,
        *stages: str,
        to: str = "",
        since: str = "",
        limit: int | None = None,
        only: str | None = None,
        max_time: float | None = None,
        overwrite_edits: bool = False,
        executor: str = "local",
        ray_address: str = "",
        retries: int = RETRIES,
        worker_timeout: float = SILENCE,
    ) -> RunResult:
        """Makes what is not done.

        Args:
            stages: names of stages, these alone; by default all.
            to: from the first stage to this one.
            since: from this stage to the last one (with `to`: to that one).
            limit: try on this many pictures, evenly spread over the shots.
            only: items or pictures whose name matches the pattern (`harbor-s003*`).
            max_time: seconds after which the run stops; what is done is kept.
            overwrite_edits: make outputs again that a person edited.
            executor: `local`: on this machine; `ray`: on a Ray cluster, whose nodes share the project folder.
            ray_address: the cluster's, or `auto`; else what RAY_ADDRESS says, else one is started on this machine.
            retries: how often an item of a worker that was lost is made again by another one.
            worker_timeout: seconds after which a worker that tells of no progress counts as lost.

        Returns:
            Counts per stage, what failed and why, what `test.fail_on` refuses, and the exit code that the command
            would end with.

        Raises:
            BgloraError: settings are wrong, sources are missing, another run is at work, the machine lacks something.
        """
        from bglora.project import refusals

        if executor not in EXECUTORS:
            raise UserError(
                f"There is no executor {executor!r}.", where=executor, cure=f"Take {' or '.join(EXECUTORS)}."
            )
        request = self._request(stages, to, since, limit, only, max_time, overwrite_edits)
        runner = self._runner(request.stages[-1])
        readiness.check_first(runner, request.stages)
        readiness.tell_terms(runner, request.stages)
        readiness.look_at_training(runner, request.stages)
        readiness.bring_weights(runner, request)
        if executor == "local":
            self._check_memory(runner, request)
            result = runner.run(request)
        else:
            with closing(workers.executor(runner, self.jobs, ray_address, retries, worker_timeout)) as runner.executor:
                result = runner.run(request)
        with closing(runner.view()) as view:
            return replace(result, refused=tuple(refusals.found(view, request.stages)))

    def missing_weights(self, *stages: str, to: str = "", since: str = "") -> list[Demand]:
        """Weights that `run` with the same arguments would read and that are not on this machine.

        Raises:
            UserError: a setting names weights that nobody knows, or whose terms forbid what the project is for.
        """
        request = self._request(stages, to, since, None, None, None, False)
        runner = self._runner(request.stages[-1])
        readiness.check_first(runner, request.stages)
        return readiness.absent_weights(runner, request)

    def plan(
        self,
        *stages: str,
        to: str = "",
        since: str = "",
        limit: int | None = None,
        only: str | None = None,
        overwrite_edits: bool = False,
    ) -> Plan:
        """What `run` would do with the same arguments, why, and about how long it would take. Changes nothing."""
        request = self._request(stages, to, since, limit, only, None, overwrite_edits)
        runner = self._runner(request.stages[-1])
        readiness.check_first(runner, request.stages)
        readiness.look_at_training(runner, request.stages)
        return runner.plan(request)

    def compare(self, *engines: str, limit: int | None = None, only: str | None = None) -> Comparison:
        """Fill engines side by side on some pictures, with scores: writes report/compare.png, changes nothing else.

        Raises `UserError` for an engine that isn't there, or without masks.
        """
        from bglora.stages.comparing import compare

        runner = self._runner("inpaint")
        readiness.check_first(runner, ("inpaint",))
        with closing(runner.view()) as view:
            return compare(view, engines, limit, only, self.listener)

    def foresee_training(self, *, limit: int | None = None, only: str | None = None) -> list[Forecast | Left]:
        """For every scene that `run("train")` would train: steps, memory, what fits, and time, measured on a few steps.

        Nothing is written.
        """
        from bglora.stages.forecasting import foresee

        request = self._request(("train",), "", "", limit, only, None, False)
        runner = self._runner("train")
        readiness.check_first(runner, request.stages)
        items = [verdict.item for stage in runner.plan(request).stages for verdict in stage.todo]
        with closing(runner.view()) as view:
            return foresee(view, items, self.listener)

    def again(self, picture: str | Path, to: str | Path | None = None) -> Again:
        """Paints a composition again from the recipe in its PNG; beside it as `NAME-again.png`, or `to`.

        Raises `UserError` without a recipe, with another base, or where a LoRA is missing or has another content.
        """
        from bglora.stages.again import paint_again

        return paint_again(self.root, self.settings, Path(picture), None if to is None else Path(to))

    def add_character(self, name: str, cutouts: Sequence[str] = ()) -> None:
        """Has `train` make a LoRA of a character: `train.characters` in project.toml gets its name.

        `cutouts` are patterns of its tracks in segmented/character, `harbor-s00?_1`; without any it is told by colors.
        """
        from bglora.project.making import add_character

        add_character(self.root, self.settings.train.characters, name, cutouts)

    def needs(self) -> dict[str, Need]:
        """How much memory each stage takes with the backends that the settings name."""
        from bglora.project.memory import needs
        from bglora.stages import load

        return needs(load(), self.settings, self.jobs)

    def status(self, *, thorough: bool = True) -> list[StageStatus]:
        """Per stage: done, to do, failed, dropped, why, seconds spent and left. No picture is opened.

        Without `thorough` a file that was changed in place since the last run or look goes unnoticed.
        """
        return self._runner().status(thorough=thorough)

    def report(self) -> Path:
        """Writes report/index.html and returns its path."""
        from bglora.project.decided import TELL, decided
        from bglora.report import build_report

        runner = self._runner()
        status = runner.status()
        with closing(runner.view()) as view:
            return build_report(self.root, view, status, decided(view, TELL))

    def decided(self, *stages: str) -> list[Decided]:
        """What stages decided on their own, in a sentence each, and the settings that change it; by default all."""
        from bglora.project.decided import TELL, decided

        last = stages[-1] if stages else ""
        with closing(self._runner(last).view()) as view:
            return decided(view, stages or TELL)

    # Room

    def clean(self, *names: str, delete: bool = False, overwrite_edits: bool = False) -> list[Cleanable]:
        """What can be deleted, what it frees and what it costs to make again; with `delete`, deletes what is named.

        Args:
            names: stages, `report`, `orphans`, `scratch`, `logs`; without any, everything is listed.
            delete: delete what is named. Files that a person edited stay unless `overwrite_edits`.
        """
        from bglora.engine.lock import ProjectLock
        from bglora.project import cleaning
        from bglora.stages import load

        stages = load()
        if not delete:
            found = cleaning.survey(self.root, stages, overwrite_edits=overwrite_edits)
            return cleaning.choose(found, names) if names else found
        if not names:
            raise UserError("Say what to delete.", where="clean", cure="`bglora clean` shows what can be deleted.")
        with ProjectLock(self.root):
            found = cleaning.choose(cleaning.survey(self.root, stages, overwrite_edits=overwrite_edits), names)
            cleaning.delete(self.root, found)
        return found

    # How

    def _runner(self, last: str = "") -> Runner:
        """The engine on the pipeline up to the stage `last`, or all of it: later stages need not be imported."""
        from bglora.engine.runner import Runner
        from bglora.stages import NAMES, load, upto

        settings, decisions = self.settings, self.decisions  # mistakes are told before anything heavy is imported
        stages = load(upto(last or NAMES[-1]))
        return Runner(
            self.root, stages, settings, decisions, listener=self.listener, jobs=self.jobs, watching=self.watching
        )

    def _check_memory(self, runner: Runner, request: RunRequest) -> None:
        """Refuses what would not fit, and says how much a card has room for; what has nothing to do fits always."""
        from bglora.project.memory import needs, refuse, room_on_card, short_of

        wanted = needs([one for one in runner.stages if one.name in request.stages], runner.settings, self.jobs)
        runner.room = room_on_card(wanted)
        short = short_of(wanted)
        if short:
            refuse([one.stage for one in runner.plan(request).stages if one.todo and one.stage in short], wanted)

    def _request(
        self,
        stages: Sequence[str],
        to: str,
        since: str,
        limit: int | None,
        only: str | None,
        max_time: float | None,
        overwrite_edits: bool,
    ) -> RunRequest:
        from bglora.engine.runner import RunRequest

        return RunRequest(
            stages=chosen(stages, to, since),
            limit=limit,
            only=only,
            max_time=max_time,
            overwrite_edits=overwrite_edits,
        )


def chosen(stages: Sequence[str], to: str, since: str) -> tuple[str, ...]:
    """Names of the stages that are meant, in pipeline order."""
    from bglora.stages import NAMES

    for name in (*stages, *filter(None, (to, since))):
        if name not in NAMES:
            raise UserError(f"There is no stage {name!r}.", where=name, cure=f"The stages are: {', '.join(NAMES)}.")
    first = NAMES.index(since) if since else 0
    last = NAMES.index(to) if to else len(NAMES) - 1
    if first > last:
        raise UserError(f"{since} comes after {to}.", where=f"--from {since} --to {to}", cure="Swap them.")
    return tuple(name for name in NAMES[first : last + 1] if not stages or name in stages)
