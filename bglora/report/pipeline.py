"""The head of the page: what film, how far, what went wrong, what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from bglora.engine.stage import Row
from bglora.engine.status import StageStatus, by_kind
from bglora.report.contents import Contents
from bglora.report.figures import code, sentence
from bglora.report.markup import Html, count, duration, tag


def summary(contents: Contents) -> str:
    """One line: how many shots, plates, places, LoRAs."""
    plates = sum(shot.plates for shot in contents.shots)
    parts = [
        (len(contents.shots), "shot"),
        (plates, "plate"),
        (len(contents.places), "place"),
        (contents.loras, "LoRA"),
    ]
    return " · ".join(count(number, word) for number, word in parts if number)


class Decision(Protocol):
    """What a stage decided on its own: in a sentence, and which settings change it."""

    @property
    def stage(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def change(self) -> str: ...


def pipeline_section(status: Sequence[StageStatus], decided: Sequence[Decision]) -> Html:
    return tag(
        "section",
        tag("h2", "Pipeline", id="pipeline-title"),
        tag("ol", [_stage(stage) for stage in status], class_="stages"),
        _next(status),
        _decided(decided),
        id="pipeline",
        aria_labelledby="pipeline-title",
    )


def _stage(stage: StageStatus) -> Html:
    state, word = _state(stage)
    lines = [
        (stage.todo, "to do"),
        (stage.dropped, "dropped"),
        (stage.failed, "failed"),
    ]
    return tag(
        "li",
        tag("span", stage.stage, class_="stage-name"),
        tag("span", f"{stage.made:,}".replace(",", "\u202f"), class_="stage-count"),
        tag("span", stage.counts, class_="soft stage-counts"),
        tag("span", word, class_="stage-state"),
        tag("ul", [tag("li", f"{number} {name}", class_=name.replace(" ", "-")) for number, name in lines if number]),
        _reasons({**stage.failures, **stage.drops}),
        _edited(stage),
        tag("span", duration(stage.seconds_spent), class_="soft stage-time") if stage.seconds_spent else None,
        class_=f"stage {state}",
    )


def _state(stage: StageStatus) -> tuple[str, str]:
    if stage.failed:
        return "failed", "some failed"
    if stage.todo and set(stage.reasons) - {"new"}:
        return "going", "out of date"
    if stage.todo:
        return ("going", "made so far") if stage.made else ("waiting", "not begun")
    return ("done", "made") if stage.made or stage.dropped else ("waiting", "not begun")


def _reasons(reasons: Mapping[str, int]) -> Html | None:
    if not reasons:
        return None
    ordered = list(by_kind(reasons).items())
    lines = [tag("li", f"{number} × ", sentence(reason)) for reason, number in ordered[:8]]
    if len(ordered) > 8:
        lines.append(tag("li", f"and {len(ordered) - 8} other reasons"))
    return tag("details", tag("summary", "why"), tag("ul", lines))


def _edited(stage: StageStatus) -> Html | None:
    if not stage.edited:
        return None
    names = tag("ul", [tag("li", name) for name in stage.edited[:20]])
    return tag("details", tag("summary", f"{len(stage.edited)} edited by you"), names)


def _decided(decided: Sequence[Decision]) -> Html | None:
    lines = [
        tag(
            "li",
            tag("b", each.stage),
            tag("span", sentence(each.text), tag("span", " ", sentence(each.change), class_="soft")),
        )
        for each in decided
    ]
    return tag("ul", lines, class_="decided") if lines else None


def _next(status: Sequence[StageStatus]) -> Html | None:
    """The one command that goes on from here."""
    failed = next((stage for stage in status if stage.failed), None)
    if failed is not None:
        words = f"{count(failed.failed, 'picture')} failed in {failed.stage}. When the cause is mended: "
        commands = code(f"bglora retry --stage {failed.stage}"), " and ", code("bglora run --all")
        return tag("p", words, commands, class_="next")
    waiting = next((stage for stage in status if stage.todo or not (stage.made or stage.dropped)), None)
    if waiting is None:
        return None
    begun = any(stage.made for stage in status)
    words = f"Next is {waiting.stage}. The rest of the way: " if begun else "Nothing is made yet. The whole way: "
    return tag("p", words, code("bglora run --all"), class_="next")


def troubles_section(troubles: Sequence[tuple[str, Row]]) -> Html:
    if not troubles:
        return Html("")
    rows = [
        tag(
            "tr", tag("td", stage), tag("td", row.picture or row.item), tag("td", sentence(row.reason), class_="reason")
        )
        for stage, row in troubles[:200]
    ]
    more = tag("p", f"and {len(troubles) - 200} more", class_="soft") if len(troubles) > 200 else None
    return tag(
        "section",
        tag("h2", "What failed", id="failed-title"),
        tag(
            "div",
            tag(
                "table",
                tag("thead", tag("tr", [tag("th", name, scope="col") for name in ("stage", "picture", "why")])),
                tag("tbody", rows),
            ),
            class_="scroll",
            tabindex=0,
            role="region",
            aria_label="What failed",
        ),
        more,
        id="failed",
        aria_labelledby="failed-title",
    )
