"""What has to be there before a run starts: weights, their terms, the work of earlier stages."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from bglora.errors import UserError

if TYPE_CHECKING:
    from bglora.engine.runner import Runner, RunRequest
    from bglora.stages.foresight import Demand


def check_first(runner: Runner, names: Sequence[str]) -> None:
    """What would stop a run later is told before it starts: weights that nobody knows or may use, an earlier stage's
    work that is missing.
    """
    from bglora.stages.foresight import check_terms, demands, missing

    wanted = demands(runner.root, runner.settings, names)
    check_terms(runner.settings, wanted)
    missing(wanted)
    first = next(stage for stage in runner.stages if stage.name in names)
    with closing(runner.view()) as view:
        for need in first.reads:
            if not view.rows(need):
                raise UserError(
                    f"{first.name} works on what {need} makes, and there is nothing of it yet.",
                    where=str(runner.root),
                    cure=f"Run: bglora {need}; or all that is needed: bglora run --to {first.name}",
                )


def tell_terms(runner: Runner, names: Sequence[str]) -> None:
    """Tells of models whose terms nobody states, where the project is commercial; those that forbid it are refused."""
    from bglora.engine.events import Notice
    from bglora.stages.foresight import demands, unsettled_terms

    for sentence in unsettled_terms(runner.settings, demands(runner.root, runner.settings, names)):
        runner.listener(Notice(text=sentence))


def look_at_training(runner: Runner, names: Sequence[str]) -> None:
    """Tells what `train.like` gives, and looks at the files and the trainer that settings of `train` name.

    Raises:
        UserError: one of them is missing, damaged, or nothing that can be used so.
    """
    from bglora import backends
    from bglora.engine.events import Notice
    from bglora.stages.hyper import check_start, liked
    from bglora.stages.train import located_base

    if "train" not in names:
        return
    chosen = liked(runner.root, runner.settings)
    check_start(runner.root, chosen.train)
    located = chosen.train.model_copy(update={"base": located_base(runner.root, chosen.train.base)})
    backends.check("train", located.backend, located, runner.root)
    if chosen.told:
        runner.listener(Notice(text=chosen.told, stage="train"))


def absent_weights(runner: Runner, request: RunRequest) -> list[Demand]:
    """Weights that stages with something to do, and those after them, will miss."""
    from bglora.stages.foresight import demands, missing

    if not missing(demands(runner.root, runner.settings, request.stages)):
        return []
    plans = runner.plan(request).stages
    first = next((number for number, one in enumerate(plans) if one.todo), len(plans))
    return missing(demands(runner.root, runner.settings, [one.stage for one in plans[first:]])) if plans[first:] else []


def bring_weights(runner: Runner, request: RunRequest) -> None:
    """Fetches weights that are missing if the project says `download = "yes"`; else stops before anything is made.

    Raises:
        MachineError: weights are missing and may not be fetched unasked, or can't be fetched.
    """
    from bglora.backends.pulling import pull
    from bglora.engine.events import Notice
    from bglora.stages.foresight import absence, described

    absent = absent_weights(runner, request)
    if absent and runner.settings.project.download != "yes":
        raise absence(absent)
    for one in absent:
        shown = described(one.weights) if one.weights else one.name
        runner.listener(Notice(text=f"fetching {shown}", stage=one.stage, where=f"{one.setting} = {one.name}"))
        pull(one.name)
