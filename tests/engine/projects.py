"""A toy project for tests: a folder with sources, its settings and decisions, and what its runs tell."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from bglora.engine.events import Event, ItemStarted, Notice
from bglora.engine.executors import Executor
from bglora.engine.executors.ray import RayExecutor
from bglora.engine.ledger import Ledger
from bglora.engine.plan import StagePlan
from bglora.engine.runner import Runner, RunRequest, RunResult
from bglora.engine.stage import Item, Outcome, Stage, Stopped, Tools, View
from bglora.errors import BgloraError
from tests.engine.toys import Choices, Double, Join, Split, pipeline, write


class Project:
    """Runs the toy pipeline (or other stages) in one process."""

    def __init__(
        self, root: Path, stages: Sequence[Stage] | None = None, jobs: int = 1, executor: Executor | None = None
    ) -> None:
        self.root, self.stages, self.jobs, self.executor = root, stages or pipeline(), jobs, executor
        (root / "sources").mkdir(parents=True, exist_ok=True)
        self.settings: dict[str, object] = {}
        self.dropped: set[str] = set()
        self.retries: dict[str, int] = {}
        self.events: list[Event] = []

    def source(self, name: str, *lines: str) -> None:
        (self.root / "sources" / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")

    def read(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8")

    def edit(self, path: str, text: str) -> None:
        (self.root / path).write_text(text, encoding="utf-8")

    def runner(self) -> Runner:
        decisions = Choices(tuple(sorted(self.dropped)), tuple(sorted(self.retries.items())))
        return Runner(
            self.root, self.stages, self.settings, decisions, self.executor, self.events.append, jobs=self.jobs
        )

    def run(self, request: RunRequest | None = None) -> RunResult:
        self.events.clear()
        return self.runner().run(request)

    def started(self, request: RunRequest | None = None) -> list[tuple[str, str]]:
        """Runs; the items that were made."""
        self.run(request)
        return [(e.stage, e.item) for e in self.events if isinstance(e, ItemStarted)]

    def plan(self, stage: str, request: RunRequest | None = None) -> StagePlan:
        return next(one for one in self.runner().plan(request).stages if one.stage == stage)

    def why(self, stage: str) -> dict[str, list[str]]:
        """Item to the reasons for which it would be made."""
        return {one.item.name: list(one.reasons) for one in self.plan(stage).todo}

    def notices(self) -> str:
        return "\n".join(f"{e.text} {e.where}" for e in self.events if isinstance(e, Notice))

    def fingerprints(self) -> dict[tuple[str, str], str]:
        """What the ledger has recorded."""
        path = self.root / ".bglora" / "ledger.sqlite"
        if not path.exists():
            return {}
        ledger = Ledger(path)
        try:
            return {(s.name, row.item): row.fingerprint for s in self.stages for row in ledger.items(s.name).values()}
        finally:
            ledger.close()


class Slow(Stage):
    """Counts to `slow.steps` in a file that it keeps in scratch, a step at a time, as a training would."""

    name, home, reads, parallel, keeps_scratch = "slow", "slow", ("split",), False, True

    def items(self, view: View) -> Iterable[Item]:
        for name in sorted({row.item for row in view.rows("split")}):
            yield Item(name, settings={"slow.steps": view.settings.get("slow.steps", 5)})

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        state = tools.scratch / "state.txt"
        done = int(state.read_text()) if state.exists() else 0
        while done < item.settings["slow.steps"]:
            if tools.stopping():
                raise Stopped
            done += 1
            waiting = state.with_suffix(".new")
            waiting.write_text(str(done))
            waiting.replace(state)
            log = tools.root / ".bglora" / "steps.log"
            with log.open("a") as file:
                file.write(f"{item.name} {done}\n")
            tools.progress(done, item.settings["slow.steps"])
            time.sleep(tools.settings.get("pause", 0.0))
        write(tools, f"slow/{item.name}.txt", f"{item.settings['slow.steps']} steps")
        return [Outcome(item.name, outputs=(f"slow/{item.name}.txt",))]


def everything() -> list[Stage]:
    return [Split(), Double(), Join(), Slow()]


def main() -> None:
    """`python -m tests.engine.projects FOLDER JOBS PAUSE`: one run, as a command would make it.

    JOBS `ray`: on the cluster that RAY_ADDRESS names, or on one of its own.
    """
    jobs = 1 if sys.argv[2] == "ray" else int(sys.argv[2])
    project = Project(Path(sys.argv[1]), everything(), jobs)
    project.settings["pause"] = float(sys.argv[3])
    if sys.argv[2] == "ray":
        project.executor = RayExecutor()
    try:
        result = project.run()
    except BgloraError as error:
        print(error)
        raise SystemExit(error.exit_code) from None
    finally:
        if project.executor is not None:
            project.executor.close()
    print("started", *[f"{e.stage}:{e.item}" for e in project.events if isinstance(e, ItemStarted)])
    raise SystemExit(result.exit_code)


if __name__ == "__main__":
    main()
