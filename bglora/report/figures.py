"""Pictures with words under them, as every section shows them."""

from __future__ import annotations

from bglora.report.markup import Child, Html, tag
from bglora.report.pictures import Picture, Unreadable


def picture(shown: Picture | Unreadable, alt: str, *, over: Picture | Unreadable | None = None) -> Html:
    """A picture, with a layer over it that the reader can switch on; or a card that says why there is none."""
    if isinstance(shown, Unreadable):
        return card("missing", shown.why)
    layers = [tag("img", src=shown.source, alt=alt, width=shown.width, height=shown.height, decoding="async")]
    if isinstance(over, Picture):
        layers.append(tag("img", src=over.source, alt="", class_="layer", decoding="async"))
    return tag("div", layers, class_="pic")


def card(kind: str, words: Child) -> Html:
    """Stands where a picture would be: `dropped`, `failed`, `missing` or `waiting`."""
    return tag("div", tag("p", words), class_=f"pic card {kind}")


def figure(content: Html, caption: Child = None, *, class_: str | None = None) -> Html:
    return tag("figure", content, tag("figcaption", caption) if caption else None, class_=class_)


def facts(*pairs: tuple[str, Child]) -> Html:
    """Names and values side by side."""
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value not in (None, "")]
    return tag("dl", rows, class_="facts") if rows else Html("")


def code(command: str) -> Html:
    return tag("code", command)


def sentence(words: str) -> list[Child]:
    """Words with what stands between backticks as code: "Then `bglora run --all`."."""
    parts = words.split("`")
    if len(parts) % 2 == 0:
        return [words]
    return [code(part) if place % 2 else part for place, part in enumerate(parts)]
