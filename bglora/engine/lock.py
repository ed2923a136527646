"""One run at a time on a project: a lock of the operating system, released when its owner dies."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from datetime import datetime
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from bglora.engine.files import told, unlink_quietly
from bglora.errors import UserError

_held: dict[Path, tuple[FileLock, int, int]] = {}
_guard = threading.RLock()


class ProjectLock:
    """`with ProjectLock(root):` holds the project for this thread. Entering it again in the same thread is fine.

    Raises:
        UserError: another process or thread holds it; says which, since when, and what it does.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root.resolve() / ".bglora"

    def __enter__(self) -> ProjectLock:
        if not self.acquire():
            raise UserError("Another run is working on this project.", where=self._owner(), cure=self._cure())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> bool:
        """Takes the lock if it is free; False if another process or thread has it."""
        me = threading.get_ident()
        with _guard:
            if self._folder in _held:
                lock, owner, count = _held[self._folder]
                if owner != me:
                    return False
                _held[self._folder] = (lock, owner, count + 1)
                return True
            with told(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                lock = FileLock(self._folder / "lock", timeout=0, thread_local=False)
                try:
                    lock.acquire()
                except Timeout:
                    return False
                _held[self._folder] = (lock, me, 1)
                try:
                    self._info.write_text(json.dumps(_about_us()), encoding="utf-8")
                except OSError:
                    self.release()
                    raise
            return True

    def release(self) -> None:
        """Gives the lock back."""
        with _guard:
            lock, owner, count = _held[self._folder]
            if count > 1:
                _held[self._folder] = (lock, owner, count - 1)
                return
            del _held[self._folder]
            unlink_quietly(self._info)
            lock.release()

    @property
    def _info(self) -> Path:
        return self._folder / "lock.json"

    def _owner(self) -> str:
        try:
            about = json.loads(self._info.read_text(encoding="utf-8"))
            return f"process {about['pid']} on {about['host']}, since {about['since']}: {about['command']}"
        except (OSError, ValueError, KeyError):
            return str(self._folder / "lock")

    def _cure(self) -> str:
        return "Wait until it has ended, or stop that process; its work is kept."


def _about_us() -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]) if sys.argv and sys.argv[0] else "Python",
    }
