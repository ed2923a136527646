"""HTML from Python: every text is escaped unless it is already `Html`."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias

VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})


class Html(str):
    """Markup that is escaped already."""

    __slots__ = ()


Child: TypeAlias = "str | None | Iterable[Child]"


def text(child: Child) -> Html:
    """A child as markup: `Html` as it is, text escaped, None as nothing, a list one after the other."""
    if child is None:
        return Html("")
    if isinstance(child, Html):
        return child
    if isinstance(child, str):
        return Html(escape(child))
    return Html("".join(text(each) for each in child))


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Html:
    """One element. Attribute names lose a trailing `_` and turn `_` into `-`; None and False leave an attribute out."""
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        parts.append(key if value is True else f'{key}="{escape(str(value))}"')
    opening = f"<{' '.join(parts)}>"
    if name in VOID:
        return Html(opening)
    return Html(f"{opening}{text(children)}</{name}>")


def count(number: int, one: str, many: str = "") -> str:
    """`1 shot`, `12 shots`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}".replace(",", "\u202f")


def percent(share: float) -> str:
    """A share (0 to 1) in words: `0 %`, `< 0.1 %`, `8.9 %`."""
    if share <= 0:
        return "0 %"
    return "< 0.1 %" if share < 0.001 else f"{share * 100:.1f} %"


def duration(seconds: float) -> str:
    """Seconds in words: `0.4 s`, `52 s`, `7 min 05 s`, `3 h 20 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
