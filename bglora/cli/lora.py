"""`train`, `test` and `compose`: the commands of their stages, with options that stand for settings."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bglora.cli import pipeline
from bglora.cli.options import Session
from bglora.cli.pipeline import work
from bglora.errors import UserError

if TYPE_CHECKING:
    from bglora.project import Project

FAULTS = {
    "weak": "too weak",
    "overpowers": "overpowers the prompt",
    "hallucinates": "hallucinates characters",
    "copies": "copies its training pictures",
    "conflicts": "conflicts with the character",
    "data": "not enough data",
}
"""What `--fail-on` takes, and the verdicts' own words."""


def train(
    session: Session,
    character: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Train this character's LoRA on its cut-outs; stays in project.toml."),
    ] = None,
    cutouts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TRACK",
            help="Its tracks in segmented/character, like 'harbor-s00?_1'; by default told by colors.",
        ),
    ] = None,
) -> int | None:
    """Train a LoRA per scene, and character LoRAs. --dry says how long it takes, measured, and what memory fits."""
    if character is None:
        if cutouts:
            raise UserError("--cutouts says what a character's are.", where="--cutouts", cure="Add --character NAME.")
        return pipeline.train(session)
    if session.options.dry:
        raise UserError(
            "--character is written into project.toml; it has no --dry.",
            where="train --character",
            cure="Leave --dry out.",
        )
    session.project().add_character(character, cutouts or ())
    session.options.only = session.options.only or f"character-{character}"
    return work(session, ("train",))


def test(
    session: Session,
    fail_on: Annotated[
        str | None,
        typer.Option(
            "--fail-on",
            metavar="WORDS",
            help="End with exit code 1 after all is done if one of these is found, for CI: " + ", ".join(FAULTS) + ".",
        ),
    ] = None,
) -> int | None:
    """Paint a grid with each LoRA and judge it."""
    if fail_on is not None:
        given = f"test.fail_on={_literal(_faults(fail_on))}"
        session.options.given = [*(session.options.given or ()), given]
    return work(session, ("test",))


def _faults(text: str) -> list[str]:
    """`hallucinates,copies` as the verdicts that they stand for; a verdict's own words do as well."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        word = FAULTS.get(part, part)
        if word not in FAULTS.values():
            raise UserError(
                f"No verdict has the name {part!r}.",
                where=f"--fail-on {text}",
                cure=f"Name some of these, with commas between: {', '.join(FAULTS)}.",
            )
        found.append(word)
    return found


def compose(
    session: Session,
    character: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Who stands there: a trained character's name or a LoRA file. Repeatable."),
    ] = None,
    background: Annotated[
        list[str] | None, typer.Option(metavar="SCENE", help="Where: scene-00. Repeatable; by default every one.")
    ] = None,
    lora: Annotated[
        list[str] | None, typer.Option(metavar="FILE=SCALE", help="One more LoRA: pose, expression, style. Repeatable.")
    ] = None,
    mode: Annotated[str | None, typer.Option(metavar="MODE", help="weighted, switch or regional.")] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHERE", help="attention, a box 'LEFT TOP RIGHT BOTTOM' in shares, or a mask picture: regional."
        ),
    ] = None,
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="Prompt instead of the scene's caption.")] = None,
    sweep: Annotated[
        str | None, typer.Option(metavar="SCALES", help="Background scales side by side: 0.5:0.9, or 0.5,0.7,0.8.")
    ] = None,
    again: Annotated[
        Path | None, typer.Option("--from", metavar="PICTURE", help="Paint this composition again, bit for bit.")
    ] = None,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="Where --from paints it.")] = None,
) -> int | None:
    """Paint pictures with character and background together."""
    if again is not None:
        return _again(session, again, to)
    if to is not None:
        raise UserError("--to says where --from paints.", where=f"--to {to}", cure="Add --from PICTURE.")
    project = session.project()
    wanted: dict[str, Any] = {
        "characters": [_file(project, one) for one in character] if character else None,
        "others": dict(_scaled(project, one) for one in lora) if lora else None,
        "region": [_file(project, one) for one in region] if region else None,
        "mode": mode or ("regional" if region else None),
        "prompt": prompt,
        "sweep": _scales(sweep) if sweep else None,
    }
    given = [f"compose.{key}={_literal(value)}" for key, value in wanted.items() if value is not None]
    session.options.given = [*(session.options.given or ()), *given]
    if background:
        _trained(project, background)
        session.options.only = ",".join(background)  # what is composed with the others stays
    return work(session, ("compose",))


def _trained(project: Project, scenes: Sequence[str]) -> None:
    found = (path.stem for path in (project.root / "loras").glob("*.safetensors"))
    there = sorted(name for name in found if not name.startswith("character-"))
    for scene in scenes:
        if scene not in there:
            raise UserError(
                f"There is no background LoRA of {scene!r}.",
                where=f"--background {scene}; trained: {', '.join(there) or 'none'}",
                cure="Name one of these, or train it: bglora train",
            )


def _again(session: Session, picture: Path, to: Path | None) -> int:
    made = session.project().again(picture, to)
    session.console.emit("painted_again", made.to_json())
    how = "bit-equal" if made.changed == 0 else f"{made.changed} pixels differ: another machine or other versions"
    session.console.result(f"Painted again: {made.path} ({how}).")
    return 0


def _scales(text: str) -> list[float]:
    """`0.5:0.9` in steps of 0.1, `0.5:0.9:0.2`, or `0.5,0.7`."""
    found = re.fullmatch(r"([0-9.]+):([0-9.]+)(?::([0-9.]+))?", text.replace(" ", ""))
    try:
        if not found:
            return [float(part) for part in text.split(",")]
        first, last, step = float(found[1]), float(found[2]), float(found[3] or 0.1)
        if step <= 0 or last < first or (last - first) / step > 64:
            raise ValueError(text)
        return [round(first + i * step, 4) for i in range(int((last - first) / step + 1.0001))]
    except ValueError:
        raise UserError(
            f"{text!r} is no row of scales.",
            where="--sweep",
            cure="Write from and to, and a step if it isn't 0.1: 0.5:0.9, 0.5:0.9:0.2; or a list: 0.5,0.7,0.8.",
        ) from None


def _scaled(project: Project, text: str) -> tuple[str, float]:
    file, equals, scale = text.rpartition("=")
    try:
        return (_file(project, file), float(scale)) if equals else (_file(project, text), 1.0)
    except ValueError:
        raise UserError(
            f"{scale!r} is no scale.", where=f"--lora {text}", cure="Write --lora FILE=SCALE, a scale from 0 to 2."
        ) from None


def _file(project: Project, text: str) -> str:
    """A file as typed, from where the command is run, as the settings name it; other words stay."""
    place = Path(text).expanduser().absolute()
    if not place.is_file():
        return text
    return place.relative_to(project.root).as_posix() if place.is_relative_to(project.root) else place.as_posix()


def _literal(value: str | Sequence[Any] | dict[str, float]) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {scale}" for key, scale in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
