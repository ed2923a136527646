"""Processes that tests have started through Ray, whoever their parent is by now."""

from __future__ import annotations

import os
import time

import psutil

MARK = "RAY_PROCESSES_OF_TEST"
"""The environment variable by which they are found."""


def left(mark: str, title: str, patience: float) -> list[str]:
    """Processes with the mark in their environment and `title` in their command line that do not end in time."""
    until = time.monotonic() + patience
    while found := [one for one in psutil.process_iter() if _is_ours(one, mark, title)]:
        if time.monotonic() > until:
            return [f"{one.pid} {one.name()}" for one in found]
        time.sleep(0.2)
    return []


def _is_ours(process: psutil.Process, mark: str, title: str) -> bool:
    try:
        return (
            process.pid != os.getpid()
            and process.status() != psutil.STATUS_ZOMBIE
            and process.environ().get(MARK) == mark
            and title in " ".join(process.cmdline())
        )
    except psutil.Error:
        return False
