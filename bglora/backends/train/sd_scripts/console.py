"""What sd-scripts says, read as it comes: lines and progress bars that are drawn over with carriage returns."""

from __future__ import annotations

import codecs
import math
import re
from collections import deque
from dataclasses import dataclass

STEPS = re.compile(
    r"steps:\s+\d+%\|[^|]*\|\s*(?P<step>\d+)/(?P<total>\d+) \[[^\]]*?(?P<speed>[\d.]+|\?)(?P<unit>s/it|it/s)"
    r"(?:,[^\]]*?avr_loss=(?P<loss>[\d.e+-]+|nan|-?inf))?[^\]]*\]"
)
"""The bar of the training; a log line may be glued to its end, so it is looked for anywhere."""
OTHER_BAR = re.compile(r"(?:(?P<label>[\w ]+): )?\s*\d+%\|[^|]*\| (?P<done>\d+)/(?P<of>\d+) \[[^\]]*\]")
EPOCH = re.compile(r"^epoch (\d+)/(\d+)$")
NUMBERS = {
    "images": re.compile(r"num train images \* repeats[^:]*: (\d+)"),
    "batches": re.compile(r"num batches per epoch[^:]*: (\d+)"),
    "epochs": re.compile(r"num epochs[^:]*: (\d+)"),
    "accumulation": re.compile(r"gradient accumulation steps[^=]*= (\d+)"),
    "total": re.compile(r"total optimization steps[^:]*: (\d+)"),
}
TAIL = 400


@dataclass(frozen=True)
class Step:
    """A look at the bar of the training.

    Attributes:
        step: optimizer steps of this run. total: of all, also where the run goes on from a state.
        loss: mean over the last epoch's micro-batches, three digits; None before the first.
        seconds: per step, mean of the whole run; None before the first.
    """

    step: int
    total: int
    loss: float | None
    seconds: float | None


class Console:
    """Reads output piece by piece. `feed` gives what is new of the training's steps; all else is in the attributes.

    Attributes:
        numbers: what the summary before the first step said: images, batches, epochs, accumulation, total.
        epoch: the epoch that it is in, from 1; 0 before.
        doing: what it is at before the first step, for people.
        tail: its last lines, without bars.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.epoch = 0
        self.doing = "starting"
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._open = ""
        self._last: Step | None = None

    def feed(self, piece: bytes, final: bool = False) -> list[Step]:
        """Reads the next piece, cut anywhere; `final` reads the rest, though no line ends it."""
        self._open += self._decoder.decode(piece, final)
        *lines, self._open = re.split(r"[\r\n]", self._open)
        found = [step for line in lines for step in self._read(line)]
        # tqdm ends a bar when it draws the next one: a whole one counts at once, a half one never.
        found += self._bar(self._open)
        if final and self._open:
            found += self._read(self._open)
            self._open = ""
        return found

    @property
    def updates_per_epoch(self) -> int:
        """Optimizer steps of an epoch; 0 before the summary. The last group of an epoch may be short."""
        batches, accumulation = self.numbers.get("batches", 0), self.numbers.get("accumulation", 1)
        return math.ceil(batches / accumulation)

    def _read(self, line: str) -> list[Step]:
        found = self._bar(line)
        rest = STEPS.sub("", line).rstrip()
        bar = OTHER_BAR.search(rest)
        if bar:
            label = (bar["label"] or "").strip() or "preparing"
            if not self._last:
                self.doing = f"{label}, {bar['done']} of {bar['of']}"
            rest = OTHER_BAR.sub("", rest).rstrip()
        if rest.strip():
            self.tail.append(rest)
            self._line(rest.strip())
        return found

    def _bar(self, text: str) -> list[Step]:
        found = []
        for match in STEPS.finditer(text):
            step = _step(match)
            if step != self._last:
                self._last = step
                found.append(step)
        return found

    def _line(self, line: str) -> None:
        epoch = EPOCH.match(line)
        if epoch:
            self.epoch = int(epoch[1])
        for name, pattern in NUMBERS.items():
            match = pattern.search(line)
            if match:
                self.numbers[name] = int(match[1])


def _step(match: re.Match[str]) -> Step:
    speed = None if match["speed"] == "?" else float(match["speed"])
    if speed and match["unit"] == "it/s":
        speed = 1 / speed
    loss = None if match["loss"] is None else float(match["loss"])
    return Step(int(match["step"]), int(match["total"]), loss, speed or None)
