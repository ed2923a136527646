"""The whole page: one file that opens from disk, with nothing outside it."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from bglora.engine.stage import View
from bglora.engine.status import StageStatus
from bglora.report.about import about_section
from bglora.report.contents import Contents, read_contents
from bglora.report.markup import Html, tag
from bglora.report.pipeline import Decision, pipeline_section, summary, troubles_section
from bglora.report.places import hero, places_section
from bglora.report.shots import shots_section


def build_page(root: Path, view: View, status: Sequence[StageStatus], decided: Sequence[Decision] = ()) -> Path:
    """Writes `report/index.html` of the project at `root` and returns its path.

    Raises `OSError` where the folder can't be written.
    """
    page = render(root, view, status, decided)
    path = root / "report" / "index.html"
    path.parent.mkdir(exist_ok=True)
    aside = path.with_name("index.html.new")
    aside.write_text(page, encoding="utf-8", newline="\n")
    os.replace(aside, path)
    return path


def render(root: Path, view: View, status: Sequence[StageStatus], decided: Sequence[Decision] = ()) -> str:
    """The page as text."""
    contents = read_contents(view)
    name = view.settings.project.title or view.settings.project.name or root.resolve().name
    style, script = _asset("style.css"), _asset("script.js")
    sections = {
        "pipeline": pipeline_section(status, decided),
        "failed": troubles_section(contents.troubles),
        "places": places_section(root, contents.places, contents.noise, contents.notice),
        "shots": shots_section(root, contents.shots),
        "about": about_section(view.settings, status),
    }
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy(style, script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{name}: places"),
        tag("style", Html(style)),
    )
    body = tag(
        "body",
        tag("a", "To the content", href="#content", class_="skip"),
        _header(root, name, contents),
        _navigation(sections),
        tag("main", list(sections.values()), id="content"),
        tag("footer", tag("p", "Made by bglora. Everything on this page is inside this file."), class_="soft"),
        _viewer(),
        tag("script", Html(script)),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def policy(style: str, script: str) -> str:
    """Nothing but this file: no network, no frames, no scripts and styles but the two that are named by digest.

    Style attributes (`--columns`) are allowed; they hold numbers of ours only.
    """
    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src-elem '{_digest(style)}'; style-src-attr 'unsafe-inline'; script-src '{_digest(script)}'"
    )


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")


def _asset(name: str) -> str:
    return resources.files("bglora.report").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _header(root: Path, name: str, contents: Contents) -> Html:
    return tag(
        "header",
        tag("h1", name),
        tag("p", summary(contents) or "Nothing is made yet.", class_="soft"),
        hero(root, contents.places),
        class_="top",
    )


def _navigation(sections: dict[str, Html]) -> Html:
    names = {"pipeline": "Pipeline", "failed": "Failed", "places": "Places", "shots": "Shots", "about": "How"}
    links = [tag("li", tag("a", names[key], href=f"#{key}")) for key, section in sections.items() if section]
    return tag("nav", tag("ul", links), aria_label="Parts of the page", class_="parts")


def _viewer() -> Html:
    """Filled by the script: a picture in full, with its neighbors."""
    return tag(
        "dialog",
        tag("div", id="viewer-picture"),
        tag("p", id="viewer-words", aria_live="polite"),
        tag(
            "div",
            tag("button", "Back", type="button", id="viewer-back"),
            tag("button", "Next", type="button", id="viewer-next", autofocus=True),
            tag("button", "Where pixels come from", type="button", id="viewer-origin", aria_pressed="false"),
            tag("button", "Close", type="button", id="viewer-close"),
            class_="buttons",
        ),
        id="viewer",
        aria_label="Picture",
    )
