"""tests/bench/README.md: one section a benchmark, each written by the command that stands in it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from datetime import date
from pathlib import Path

README = Path(__file__).with_name("README.md")

HEADER = """\
# Benchmarks

Every table here is written by the command above it. Figures depend on the machine, so most tables put what bglora does
beside something else that ran on the same machine in the same minutes.
"""


def write_section(title: str, command: str, rows_markdown: str, note: str = "") -> None:
    """Puts a section into the README in place of the one with the same title.

    Args:
        command: what a person types to write this section anew.
        rows_markdown: a Markdown table.
        note: what the figures mean.
    """
    text = README.read_text(encoding="utf-8") if README.exists() else HEADER
    begin, end = f"<!-- {title} -->", f"<!-- end of {title} -->"
    body = f"{begin}\n## {title}\n\n    {command}\n\n{_circumstances()}\n\n{rows_markdown.strip()}\n"
    body += f"\n{note.strip()}\n{end}" if note else end
    old = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    text = old.sub(lambda _: body, text) if old.search(text) else f"{text.rstrip()}\n\n{body}\n"
    README.write_text(text, encoding="utf-8")
    print(f"{rows_markdown.strip()}\n")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is left, the others are right."""
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join([" --- "] + [" ---: "] * (len(head) - 1)) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _circumstances() -> str:
    versions = [f"Python {platform.python_version()}"]
    for name in ("numpy", "torch", "opencv-contrib-python-headless", "av"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    machine = f"{os.cpu_count()} cores {_processor()}, {sys.platform}{_load()}"
    return f"{date.today().isoformat()}, {machine}; {', '.join(versions)}."


def _load() -> str:
    """How busy the machine was; where more processes than cores want to run, wall times mean little."""
    return f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8"))
        if found:
            return found.group(1).strip()
    return platform.machine()
