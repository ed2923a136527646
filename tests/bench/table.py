"""Writes the sections of tests/bench/README.md: nothing in it is typed by hand."""

from __future__ import annotations

import platform
import re
from datetime import date
from pathlib import Path

README = Path(__file__).with_name("README.md")
HEAD = "# What was measured\n\nEach section is written by the command that stands in it.\n"


def write_section(name: str, command: str, markdown: str) -> None:
    """Replaces or adds the section `name`.

    Args:
        name: its heading.
        command: the command that writes it, run in the checkout.
        markdown: tables and sentences.
    """
    text = README.read_text(encoding="utf-8") if README.exists() else HEAD
    machine = (
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {date.today().isoformat()}"
    )
    section = f"## {name}\n\n`{command}`\n\n{markdown.strip()}\n\n{machine}\n"
    old = re.compile(rf"^## {re.escape(name)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    text = old.sub(lambda _: section + "\n", text) if old.search(text) else f"{text.rstrip()}\n\n{section}"
    README.write_text(text.rstrip() + "\n", encoding="utf-8")
