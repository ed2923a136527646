"""Numbers, times and names as people read them. Everything that comes from outside is made safe to print here."""

from __future__ import annotations

import unicodedata


def safe(text: object) -> str:
    """Text with control and direction characters shown instead of obeyed; line breaks stay.

    A file may be called anything: an escape sequence in its name must not paint the terminal.
    """
    return "".join(
        char if char == "\n" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else _shown(char)
        for char in str(text)
    )


def _shown(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def duration(seconds: float | None) -> str:
    """`0.4 s`, `42 s`, `3 min 05 s`, `2 h 10 min`; `?` if not known."""
    if seconds is None:
        return "?"
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: float) -> str:
    """Bytes as `640 kB`, `12 MB`, `3.4 GB`."""
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.1f} {unit}" if count < 10 * one else f"{count / one:.0f} {unit}"
    return f"{count:.0f} B"


def number(count: int) -> str:
    """`5 130`: thousands apart by a thin gap that no locale reads as a decimal sign."""
    return f"{count:,}".replace(",", " ")


def counted(count: int, one: str, many: str = "") -> str:
    """`1 shot`, `3 shots`."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def listed(parts: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else "nothing"


UNITS = {
    "ingest": ("source", "sources"),
    "segment": ("shot", "shots"),
    "inpaint": ("shot", "shots"),
    "cluster": ("set of plates", "sets of plates"),
    "caption": ("scene", "scenes"),
    "train": ("scene", "scenes"),
    "test": ("scene", "scenes"),
    "compose": ("scene", "scenes"),
}
"""Stage to what it works on one by one, in singular and plural."""


def units(stage: str, count: int) -> str:
    """`12 shots` of segment, `4 scenes` of train."""
    return counted(count, *UNITS.get(stage, ("item", "items")))
