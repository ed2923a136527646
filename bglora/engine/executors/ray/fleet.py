"""The nodes that work: asked before they get work, watched while they have some."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bglora.engine.events import Listener, Notice
from bglora.engine.executors.ray.nodes import Node, alive
from bglora.engine.executors.ray.sharing import PATIENCE, SILENT, Question, Token, judge, refusal
from bglora.engine.executors.ray.workers import Message, Workforce
from bglora.errors import MachineError

_LOOK = 2.0
"""Seconds between looks at which nodes there are."""
_WAIT = 0.2


class Fleet:
    """The nodes of the cluster that share the project.

    Args:
        root: the project folder.
    """

    def __init__(self, force: Workforce, root: Path, tell: Listener) -> None:
        self.force, self.root, self.tell = force, root, tell
        self.nodes: dict[str, Node] = {}
        self._beside: set[Path] | None = None
        self._asked: dict[str, Question] = {}
        self._refused: set[str] = set()
        self._token: Token | None = None
        self._looked = 0.0

    def check(self, beside: Iterable[Path], stopping: Callable[[], bool]) -> None:
        """Asks all nodes whether they see the project folder, and what lies beside it; returns when each has answered.

        Raises:
            UserError: a node doesn't see them. MachineError: there is no node.
        """
        if self._beside is not None and self._beside.issuperset(beside):
            return
        self._beside = (self._beside or set()).union(beside)
        found = [one for one in alive(self.force.ray.nodes()) if one.id not in self._refused]
        if not found:
            raise MachineError(
                "The cluster has no node that lends cores or graphics cards.",
                where="ray.nodes()",
                cure="Start one: ray start --address HEAD:6379; `ray status` shows what there is.",
            )
        self._looked = time.monotonic()
        wrong: list[tuple[Node, str]] = []
        try:
            self._ask(found)
            until = time.monotonic() + PATIENCE
            while self._asked and time.monotonic() < until and not stopping():
                for message in self.force.messages(_WAIT):
                    if message.kind == "looked" and self._awaited(message):
                        node, told = self._hear(message)
                        wrong += [(node, told)] if told else []
            if not stopping():
                wrong += [(question.node, SILENT) for question in self._asked.values()]
        finally:
            self._asked.clear()
            self._put_token_away()
        there = {node.id for node in alive(self.force.ray.nodes())} if wrong else set()
        wrong = [(node, told) for node, told in wrong if told != SILENT or node.id in there]  # some may have just left
        if wrong:
            raise refusal(self.root, sorted(wrong, key=lambda one: one[0].name), len(found))

    def look(self) -> bool:
        """Looks from time to time which nodes went and which came; True if one that worked is gone."""
        if time.monotonic() - self._looked < _LOOK:
            return False
        self._looked = time.monotonic()
        there = {node.id: node for node in alive(self.force.ray.nodes())}
        gone = [name for name in self.nodes if name not in there]
        for name in gone:
            self.tell(Notice(f"The node {self.nodes.pop(name).name} left the cluster."))
        known = self.nodes.keys() | self._asked.keys() | self._refused
        self._ask([node for name, node in there.items() if name not in known])
        return bool(gone)

    def hear(self, message: Message) -> bool:
        """Takes in the answer of a node that came later; True if it can work."""
        if not self._awaited(message):
            return False
        node, wrong = self._hear(message)
        if not self._asked:
            self._put_token_away()
        if wrong:
            self.give_up(node, wrong)
            return False
        self.tell(Notice(f"The node {node.name} joined the cluster."))
        return True

    def give_up(self, node: Node, reason: str) -> None:
        """A node gets no more work."""
        self.nodes.pop(node.id, None)
        self._refused.add(node.id)
        self.tell(Notice(f"The node {node.name} gets no work: {reason}."))

    def close(self) -> None:
        """Leaves nothing in the project folder."""
        self._put_token_away()

    def _ask(self, nodes: Sequence[Node]) -> None:
        if not nodes:
            return
        if self._token is None:
            self._token = Token(self.root)
            self._token.lay()
        for node in nodes:
            question = self._asked[node.id] = Question(node, tuple(sorted(self._beside or ())))
            self.force.expect("looked", question, self._token.ask(self.force.ray, question))

    def _awaited(self, message: Message) -> bool:
        """Whether it answers the last question to its node, not one about what an earlier stage needs."""
        return self._asked.get(message.of.node.id) is message.of

    def _hear(self, message: Message) -> tuple[Node, str]:
        node = self._asked.pop(message.of.node.id).node
        node, wrong = judge(node, message.error or message.value)
        if not wrong:
            self.nodes[node.id] = node
        return node, wrong

    def _put_token_away(self) -> None:
        if self._token is not None:
            self._token.take_away()
            self._token = None
