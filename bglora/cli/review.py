"""The command `review`: the page with hands."""

from __future__ import annotations

from typing import Annotated

import typer

from bglora.cli.options import Session


def review(
    session: Session,
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Where to listen; 0: any free port.")] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the address, open no browser.")] = False,
) -> None:
    """Look, decide and run in the browser. Stop with Ctrl-C."""
    from bglora.review.server import serve

    project = session.project()
    project.status()  # tells of a damaged manifest or ledger here, not in the browser

    def opened(address: str) -> None:
        session.console.emit("review", {"url": address})
        session.console.result(address)
        session.console.say("Whoever has this address can decide about this project. Stop with Ctrl-C.")
        if not no_open:
            import webbrowser

            webbrowser.open(address)

    serve(project, port, opened)
