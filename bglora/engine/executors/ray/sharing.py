"""Whether every node sees the project folder: before any work each reads a token that was just written there."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bglora import __version__
from bglora.engine import files
from bglora.engine.executors.ray.connecting import on_node
from bglora.engine.executors.ray.nodes import Node
from bglora.errors import BgloraError, UserError

PATIENCE = 120.0
"""Seconds that a node has to answer: its first process starts, and imports what it needs."""
SILENT = "it does not answer"
NOT_THERE = "is not the same there"


@dataclass(frozen=True, eq=False)
class Question:
    """What a node is asked: whether it sees the project folder, and these other files and folders."""

    node: Node
    beside: tuple[Path, ...] = ()


class Token:
    """A file in the project folder that says something nobody can guess, from `lay` to `take_away`."""

    def __init__(self, root: Path) -> None:
        self.path = root / ".bglora" / f"shared-{secrets.token_hex(8)}"
        self.secret = secrets.token_hex(16)

    def lay(self) -> None:
        """Writes it."""
        with files.told(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(self.secret, encoding="utf-8")

    def take_away(self) -> None:
        """Deletes it."""
        files.unlink_quietly(self.path)

    def ask(self, ray: Any, question: Question) -> Any:
        """Has a node look; the reference to its answer, see `judge`."""
        node = question.node
        looking = ray.remote(_looker()).options(num_cpus=0, max_retries=0, scheduling_strategy=on_node(node.id))
        return looking.remote(str(self.path), self.secret, [str(path) for path in question.beside])


def judge(node: Node, answer: Mapping[str, Any] | BaseException) -> tuple[Node, str]:
    """The node as it told of itself, and what is wrong with it; empty if nothing."""
    if isinstance(answer, BaseException):
        return node, SILENT
    if answer["wrong"]:
        return node, str(answer["wrong"])
    if answer["version"] != __version__:
        there = f"bglora {answer['version']} is" if answer["version"] else "bglora is not"
        return node, f"{there} installed there, {__version__} here"
    return replace(node, card_gb=float(answer["card_gb"])), ""


def refusal(root: Path, wrong: Iterable[tuple[Node, str]], count: int) -> BgloraError:
    """The error for nodes that can't work on the project.

    Args:
        count: nodes in all.
    """
    wrong = list(wrong)
    told = "; ".join(f"node {node.name}: {what}" for node, what in wrong)
    if any(what == f"{root} {NOT_THERE}" for _, what in wrong):
        return UserError(
            f"{len(wrong)} of {count} nodes of the cluster do not share the project folder.",
            where=told,
            cure="Put the project on a file system that all nodes mount at the same path, or leave these nodes out.",
        )
    if any(NOT_THERE in what for _, what in wrong):
        return UserError(
            f"{len(wrong)} of {count} nodes of the cluster do not see what the settings name outside the project.",
            where=told,
            cure="Put it where all nodes mount it at the same path, or into the project folder.",
        )
    return UserError(
        f"{len(wrong)} of {count} nodes of the cluster can't work on the project.",
        where=told,
        cure="Make them like this machine (same bglora, same rights in the project folder), or leave them out.",
    )


def _looker() -> Callable[[str, str, list[str]], dict[str, Any]]:
    """What a node runs. It is sent as it stands here, so that a node without bglora can say so."""

    def look(token: str, secret: str, beside: list[str]) -> dict[str, Any]:
        import os
        import subprocess

        def wrong() -> str:
            try:
                with open(token, encoding="utf-8") as file:
                    if file.read() != secret:
                        return f"{os.path.dirname(os.path.dirname(token))} is not the same there"
                mine = f"{token}-{os.getpid()}"
                with open(mine, "x", encoding="utf-8"):
                    os.unlink(mine)
            except (FileNotFoundError, NotADirectoryError):
                return f"{os.path.dirname(os.path.dirname(token))} is not the same there"
            except OSError as error:
                return f"{error.filename or token}: {error.strerror}"
            missing = [path for path in beside if not os.path.exists(path)]
            return f"{missing[0]} is not the same there" if missing else ""

        def version() -> str:
            try:
                from bglora import __version__
            except ImportError:
                return ""
            return str(__version__)

        def card_gb() -> float:
            ask = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
            try:
                told = subprocess.run(ask, capture_output=True, text=True, timeout=30).stdout.split()
            except (OSError, subprocess.SubprocessError):
                return 0.0
            sizes = [int(one) for one in told if one.isdecimal()]
            return min(sizes) / 1024 if sizes else 0.0

        return {"wrong": wrong(), "version": version(), "card_gb": card_gb()}

    return look
