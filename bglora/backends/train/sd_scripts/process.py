"""A training in another process: started in a session of its own, heard without waiting, ended with all it started."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil

from bglora.backends.train.sd_scripts import guard

PATIENCE = 0.2
"""Seconds between looks at whether the run has to stop."""
LAST_WORDS = 5.0
"""Seconds that output may still come after the end; a worker of its data loader may hold the pipe open."""


class Training:
    """A command under guard. `with` it: whatever happens inside, nothing of it is left behind.

    Args:
        words: the command.
        folder: where it runs.
        log: its output, whole; what is there already is kept, for a training may take several runs.
        variables: its environment.
        mark: which training it is; see `guard.marked`.
    """

    def __init__(self, words: Sequence[str], folder: Path, log: Path, variables: Mapping[str, str], mark: str) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.mark = mark
        self.code: int | None = None
        self.log_error: OSError | None = None
        self._log = log.open("ab", buffering=0)
        self._pieces: queue.Queue[bytes] = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-P", guard.__file__, *words],
            cwd=folder,
            env={**variables, guard.MARK: mark},
            stdin=subprocess.PIPE,  # never written to: its end tells the guard that we are gone
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            # Out of reach of the terminal's Ctrl-C, which is for us to hear and to pass on.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Training:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop(gentle=0.0, firm=1.0)
        self._log.close()

    def hear(self) -> bytes | None:
        """The next piece of output; empty when nothing came in a while, None after the end (then `code` is set)."""
        try:
            return self._pieces.get(timeout=PATIENCE)
        except queue.Empty:
            pass
        self.code = self._process.poll()
        if self.code is None:
            return b""
        self._reader.join(LAST_WORDS)
        return None if self._pieces.empty() else self._pieces.get()

    def stop(self, *, gentle: float = guard.GENTLE, firm: float = guard.FIRM) -> None:
        """Ends it: Ctrl-C, a request to end, SIGKILL."""
        if self._process.poll() is None:
            top = psutil.Process(self._process.pid)
            guard.end(lambda: guard.below(top), group=top.pid, gentle=gentle, firm=firm)
            try:
                self._process.wait(guard.FIRM)  # the guard ends with the command
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        end_strays(self.mark)
        self.code = self._process.returncode
        self._reader.join(LAST_WORDS)
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        while piece := os.read(stream.fileno(), 1 << 16):
            self._pieces.put(piece)
            if self.log_error is None and not self._log.closed:
                try:
                    self._log.write(piece)
                except OSError as error:  # a full disk; reading goes on, or the training would wait for us
                    self.log_error = error


def end_strays(mark: str) -> int:
    """Ends what is left of a training whose driver and guard were killed. Returns how many processes that were.

    Two drivers can't work at one project, so whatever carries its mark here is nobody's.
    """
    strays = guard.marked(mark)
    if strays:
        guard.end(lambda: guard.marked(mark), gentle=0.0)
    return len(strays)
