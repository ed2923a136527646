"""The page of `bglora review`: its frame as HTML, and the files beside it. The browser fills it from the server.

Everything is served from this machine: plain modules and styles, no build step, no network.
"""

from __future__ import annotations

from bglora.report.markup import Html, tag

VIEWS = (("plates", "Plates"), ("scenes", "Scenes"), ("captions", "Captions"), ("loras", "LoRAs"))


def review_page(name: str) -> str:
    """The page for a project, as HTML.

    Args:
        name: the film's title, as people read it.
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{name}: review"),
        tag("link", rel="icon", href="data:,"),
        tag("link", rel="stylesheet", href="/static/style.css"),
        tag("link", rel="stylesheet", href="/static/review.css"),
        tag("link", rel="stylesheet", href="/static/viewer.css"),
        tag("script", src="/static/main.js", type="module"),
    )
    body = tag(
        "body",
        tag("a", "To the content", href="#content", class_="skip"),
        _top(name),
        tag(
            "main",
            tag("noscript", tag("p", "This page needs JavaScript; `bglora report` makes one that does not.")),
            tag("p", "Looking at the project…", id="loading", role="status", class_="soft"),
            [tag("section", id=view, aria_label=words, hidden=view != "plates") for view, words in VIEWS],
            id="content",
            tabindex=-1,
        ),
        tag("div", id="warned", role="alert", class_="message", hidden=True),
        tag("div", id="told", role="status", class_="message", hidden=True),
        tag("p", id="whispered", role="status", class_="unseen"),
        tag("div", id="running", class_="bar-end", role="region", aria_label="Run"),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _top(name: str) -> Html:
    links = [tag("li", tag("a", words, href=f"#{view}")) for view, words in VIEWS]
    return tag(
        "header",
        tag("h1", name),
        tag("nav", tag("ul", links), aria_label="Views", class_="views"),
        tag(
            "div",
            tag("button", tag("span", "Undo"), tag("span", id="undo-what"), type="button", id="undo", disabled=True),
            tag("button", "?", type="button", id="show-help", aria_label="Keys"),
            class_="top-acts",
        ),
        class_="bar-top",
    )
