"""Runs a command and ends it, with all that it started, when whoever started this is gone. Run as a file.

    python -P guard.py COMMAND...

Standard input is the string between the two: its other end is closed when that process ends, however it ends, also by
SIGKILL and on Windows. The command's exit code becomes this one's; a signal becomes 128 + its number, as in a shell.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

import psutil

MARK = "BGLORA_TRAINS"
"""Environment variable of all that a training starts; its value says which training."""
GENTLE, FIRM = 15.0, 5.0
"""Seconds that a Ctrl-C is given, and then a request to end."""

Find = Callable[[], list[psutil.Process]]


def end(find: Find, *, group: int = 0, gentle: float = GENTLE, firm: float = FIRM) -> None:
    """Ends processes: Ctrl-C, then SIGTERM, then SIGKILL; those that they start meanwhile, too.

    Args:
        find: gives those that are left.
        group: on Windows, the process group that hears Ctrl-Break, which is its Ctrl-C for other processes.
        gentle, firm: seconds of patience after Ctrl-C and after SIGTERM; 0 leaves the step out.
    """
    known: dict[int, psutil.Process] = {}
    for ask, patience in ((_interrupt, gentle), (psutil.Process.terminate, firm), (psutil.Process.kill, FIRM)):
        known |= {one.pid: one for one in find()}
        alive = [one for one in known.values() if _alive(one)]
        if not alive:
            return
        if not patience:
            continue
        if ask is _interrupt and os.name == "nt":
            if group:
                os.kill(group, signal.CTRL_BREAK_EVENT)  # type: ignore[attr-defined,unused-ignore]
        else:
            for one in alive:
                _try(ask, one)
        psutil.wait_procs(alive, timeout=patience)


def below(top: psutil.Process) -> list[psutil.Process]:
    """All that a process started, and what they did. By the tree: torch puts each of several into its own session."""
    try:
        return list(top.children(recursive=True))
    except psutil.Error:  # it has ended
        return []


def marked(mark: str) -> list[psutil.Process]:
    """All processes of a training, also where their parents are gone."""
    return [one for one in psutil.process_iter() if one.pid != os.getpid() and _mark_of(one) == mark]


def _alive(one: psutil.Process) -> bool:
    try:
        return one.is_running() and one.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _mark_of(one: psutil.Process) -> str:
    try:
        return str(one.environ().get(MARK, ""))
    except (psutil.Error, OSError):  # another user's, or it has ended
        return ""


def _interrupt(one: psutil.Process) -> None:
    one.send_signal(signal.SIGINT)


def _try(ask: Callable[[psutil.Process], None], one: psutil.Process) -> None:
    try:
        ask(one)
    except psutil.Error:  # it has ended meanwhile
        return


def main(command: Sequence[str]) -> int:
    """Runs the command to its end, or to the end of standard input."""
    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)  # the command is asked to end, not this
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_listen if os.name != "nt" else None)
    ending = threading.Event()

    def end_with_driver() -> None:
        while os.read(0, 1):  # not sys.stdin, whose lock would be held at the end of this program
            continue
        ending.set()
        own = psutil.Process()
        end(lambda: below(own), group=own.pid)
        os._exit(130)

    watching = threading.Thread(target=end_with_driver, daemon=True)
    watching.start()
    code = child.wait()
    if ending.is_set():
        watching.join()  # the command has ended, what it started perhaps not yet
    return code if code >= 0 else 128 - code


def _listen() -> None:
    """The command hears the signals that the guard is deaf to; deafness would be inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
