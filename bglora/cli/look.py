"""Commands that look: `status`, `report`, `settings`, `get`; and `set`, which changes what `get` shows."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from bglora.cli.options import Session
from bglora.errors import UserError


def keys() -> list[str]:
    """Every key of project.toml, for the shell's completion."""
    from bglora.settings.manifest import fields

    return [f"{table}.{name}" for table, names in fields().items() for name in names]


Key = Annotated[str, typer.Argument(metavar="TABLE.KEY", help="Such as inpaint.engine.", autocompletion=keys)]


def status(session: Session) -> None:
    """Show per stage what is done, to do, failed and dropped, and why."""
    from bglora.console.tables import status_lines

    found = session.project().status()
    session.console.emit("status", {"stages": [one.to_json() for one in found]})
    for shown in status_lines(found):
        session.console.result(shown)


def report(session: Session) -> None:
    """Write the report, a page that opens from disk."""
    path = session.project().report()
    session.console.emit("report", {"path": str(path)})
    session.console.result(f"The report is {path}")


def settings(
    session: Session,
    table: Annotated[str | None, typer.Argument(metavar="[TABLE]", help="This table alone.")] = None,
) -> None:
    """Print every setting with its value, what it means and where the value comes from."""
    from bglora.console.tables import settings_lines
    from bglora.settings.edit import known, plain
    from bglora.settings.manifest import fields, read

    if table:
        known(table, tables=True)
    project = session.project()
    reading = read(project.root, project.given)
    for name, inside in fields().items():
        if table in (None, name):
            rows = [
                (key, plain(reading, f"{name}.{key}"), reading.origin(f"{name}.{key}"), field.description or "")
                for key, field in inside.items()
            ]
            for key, value, origin, about in rows:
                told = {"key": f"{name}.{key}", "value": value, "origin": origin, "about": about}
                session.console.emit("setting", told)
            for shown in settings_lines(name, rows):
                session.console.result(shown)


def get(
    session: Session,
    key: Annotated[str, typer.Argument(metavar="TABLE[.KEY]", help="Such as inpaint.engine.", autocompletion=keys)],
) -> None:
    """Print the value of a setting, or of a whole table."""
    from bglora.settings.edit import get_value, toml_lines

    project = session.project()
    value, origin = get_value(project.root, key, project.given)
    session.console.emit("setting", {"key": key, "value": value, "origin": origin})
    session.console.raw("\n".join(toml_lines(key, value)))
    if session.console.verbose:
        session.console.say(f"from {origin}")


def set_(
    session: Session,
    key: Key,
    value: Annotated[
        str | None, typer.Argument(metavar="VALUE", help="As in project.toml; text needs no quotes.")
    ] = None,
) -> None:
    """Change a setting in project.toml. Comments and order stay."""
    if value is None:  # written as for --set
        key, equals, value = key.partition("=")
        if not equals:
            raise UserError(f"Say what {key} is to be.", where=f"bglora set {key}", cure=f"bglora set {key} VALUE")
    project = session.project()
    changed = project.set(key, value)
    for one in changed:
        session.console.emit("setting", {"key": one, "value": project.get(one), "origin": "project.toml"})
    if not changed:
        session.console.say(f"{key} is {value} already.")
    for one in changed:
        session.console.result(f"{one} = {json.dumps(project.get(one), ensure_ascii=False)}")
    if changed:
        session.console.say("`bglora plan` says what will be made again.")
