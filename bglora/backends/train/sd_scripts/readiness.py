"""Whether sd-scripts can start, looked at before hours of work: its script, its Python, its packages, its options."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bglora.backends.train.sd_scripts import command, failures, probe
from bglora.errors import BgloraError, MachineError

PATIENCE = 300
"""Seconds that a first import may take: torch from a cold disk."""


@dataclass(frozen=True)
class Ready:
    """An sd-scripts that can start.

    Attributes:
        python: the words before a script's name.
        script: sdxl_train_network.py.
        version: `0.10.1`, `commit 1a2b3c4d5e6f`, or empty where it doesn't tell.
        packages: Python's, torch's and accelerate's versions.
        cards: graphics cards that its torch sees.
        options: what its script takes; configuration keys beyond these would be ignored silently. Empty: unknown.
    """

    python: tuple[str, ...]
    script: Path
    version: str
    packages: tuple[str, str, str]
    cards: int
    options: frozenset[str]

    def told(self) -> str:
        """For people: `sd-scripts 0.10.1, Python 3.10.6, torch 2.6.0, accelerate 1.6.0, 1 graphics card`."""
        cards = {0: "no graphics card", 1: "1 graphics card"}.get(self.cards, f"{self.cards} graphics cards")
        python, torch, accelerate = self.packages
        return (
            f"sd-scripts{f' {self.version}' if self.version else ''}, Python {python}, torch {torch}, "
            f"accelerate {accelerate}, {cards}"
        )


def look(sd_scripts: str, python: str, root: Path) -> Ready:
    """Starts its Python, imports torch, accelerate and the script with all that it needs, and asks for its options.

    Raises:
        UserError: a folder or a Python that isn't there.
        MachineError: it doesn't start, or a package is missing.
    """
    folder = command.folder_of(sd_scripts, root)
    words = command.python_words(python, folder, root)
    where = f"{command.PYTHON_SETTING} = {python}" if python else " ".join(words)
    answer = _ask([*words, probe.__file__, str(folder)], root, where)
    said = next((line for line in answer.splitlines() if line.startswith(probe.MARK)), "")
    if not said:
        raise _not_starting(answer, where)
    told = json.loads(said.removeprefix(probe.MARK))
    script, version = folder / command.SCRIPT, version_of(folder)
    return Ready(tuple(words), script, version, tuple(told["packages"]), told["cards"], frozenset(told["options"]))


def unknown(options: Mapping[str, Any], ready: Ready) -> list[str]:
    """Keys of a configuration that this sd-scripts has no option for."""
    return sorted(set(options) - ready.options) if ready.options else []


def version_of(folder: Path) -> str:
    """What a checkout says of itself: pyproject.toml's version, else git's commit; empty if neither."""
    project = folder / "pyproject.toml"
    if project.is_file():
        try:
            version = tomllib.loads(project.read_text("utf-8")).get("project", {}).get("version", "")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            version = ""
        if version:
            return str(version)
    commit = _commit(folder / ".git")
    return f"commit {commit[:12]}" if commit else ""


def _commit(git: Path) -> str:
    head = _text(git / "HEAD")
    if not head.startswith("ref: "):
        return head
    name = head.removeprefix("ref: ")
    packed = (line.split() for line in _text(git / "packed-refs").splitlines())
    return _text(git / name) or next((words[0] for words in packed if words[1:] == [name]), "")


def _text(path: Path) -> str:
    return path.read_text("utf-8").strip() if path.is_file() else ""


def _ask(words: Sequence[str], root: Path, where: str) -> str:
    try:
        answer = subprocess.run(
            words,
            cwd=root,
            env=command.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # a Ctrl-C is for us to hear, not a reason for it to fail
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _not_starting(str(error), where) from error
    if answer.returncode:
        raise _not_starting(answer.stderr or answer.stdout, where)
    return answer.stdout


def _not_starting(said: str, where: str) -> BgloraError:
    module = failures.MODULE.search(said)
    if module:
        return failures.missing_module(module[1], where)
    lines = said.strip().splitlines()
    last = failures.cause(lines) or (lines[-1].strip() if lines else "it said nothing")
    return MachineError(
        f"The Python of sd-scripts doesn't start: {last}",
        where=where,
        cure=f"Set {command.PYTHON_SETTING} to the Python that sd-scripts was installed with, and try: bglora doctor",
    )
