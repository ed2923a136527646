"""Errors that a person can cause or mend: what happened, where, and the cure.

    BgloraError                 carries what, where, cure and an exit code
    ├── UserError        (2)    the user can mend it: manifest, missing file, wrong option
    ├── MachineError     (3)    the machine lacks something: package, weights, memory, disk
    ├── Refused          (1)    all is done, and something in it may not be by the project's own rule
    ├── TimeIsUp        (75)    stopped by --max-time; run again
    └── Interrupted    (130)    stopped by the user; everything done so far is kept

Exit codes: 0 all fresh, 1 some items failed or are refused and the rest is done, 2, 3, 75 and 130 as above.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_ITEMS_FAILED = 1
EXIT_USER = 2
EXIT_MACHINE = 3
EXIT_TIME = 75
EXIT_INTERRUPTED = 130


class BgloraError(Exception):
    """An error told in three lines.

    Args:
        what: what happened, one plain sentence.
        where: the file, key or item that it happened at.
        cure: the command or edit that mends it.
    """

    exit_code = EXIT_USER

    def __init__(self, what: str, *, where: str, cure: str) -> None:
        super().__init__(what, where, cure)
        self.what, self.where, self.cure = what, where, cure

    def __str__(self) -> str:
        return f"{self.what}\n{self.where}\n{self.cure}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.cure)


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line; its class if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _rebuild(kind: type[BgloraError], what: str, where: str, cure: str) -> BgloraError:
    return kind(what, where=where, cure=cure)


class UserError(BgloraError):
    """The user can mend it: a manifest, a missing file, a wrong option."""


class MachineError(BgloraError):
    """The machine lacks something: a package, weights, memory, disk room."""

    exit_code = EXIT_MACHINE


class Refused(BgloraError):
    """All is done, and something in it may not be by the project's own rule (`test.fail_on`)."""

    exit_code = EXIT_ITEMS_FAILED


class TimeIsUp(BgloraError):
    """`--max-time` is over. What is done is kept; the same command goes on."""

    exit_code = EXIT_TIME


class Interrupted(BgloraError):
    """The user stopped the run. What is done is kept; the same command goes on."""

    exit_code = EXIT_INTERRUPTED
