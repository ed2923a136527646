"""One of several processes that train together: `accelerate launch` runs this module in each.

It calls the process that started it, trains what it is handed and tells how that ended. Without its starter it ends.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from bglora.backends.train.crew import ADDRESS, KEY, told_of
from bglora.backends.train.native import train_here
from bglora.errors import BgloraError
from bglora.nets import device
from bglora.training import processes
from bglora.training.job import Paused, TrainJob


@dataclass(frozen=True)
class Tools:
    """What of the engine's tools a training needs; words go through the pipe, the first process's alone."""

    root: Path
    scratch: Path
    pipe: Connection[Any, Any]
    stop: threading.Event
    speaks: bool

    def progress(self, done: float, total: float, text: str = "") -> None:
        if self.speaks:
            self.pipe.send(("progress", done, total, text))

    def stopping(self) -> bool:
        return self.stop.is_set()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    number = int(os.environ["RANK"])
    pipe: Connection[Any, Any] = Client(
        ("127.0.0.1", int(os.environ.pop(ADDRESS))), authkey=os.environ.pop(KEY).encode()
    )
    pipe.send((number, os.getpid()))
    jobs: queue.SimpleQueue[tuple[TrainJob, Path, Path]] = queue.SimpleQueue()
    stop = threading.Event()
    threading.Thread(target=_listen, args=(pipe, jobs, stop), daemon=True).start()
    cpu = os.environ.get(device.ENVIRONMENT) == "cpu"
    if not cpu:
        os.environ[device.ENVIRONMENT] = f"cuda:{os.environ['LOCAL_RANK']}"
    together = processes.join(cpu)
    while True:
        job, root, scratch = jobs.get()
        pipe.send(_train(job, Tools(root, scratch, pipe, stop, together.first), together))


def _train(job: TrainJob, tools: Tools, together: processes.Processes) -> tuple[Any, ...]:
    """How a training ended, as the message that tells it."""
    try:
        return "done", train_here(job, tools, together)
    except Paused as paused:
        return "paused", str(paused)
    except (BgloraError, OSError) as error:  # what the engine knows, a full disk for one
        return "refused", error
    except Exception as error:
        return "crashed", told_of(error), traceback.format_exc()


def _listen(pipe: Connection[Any, Any], jobs: Any, stop: threading.Event) -> None:
    """Hears what the starter says, also while a training runs; a starter that is gone ends this process at once."""
    while True:
        try:
            kind, *values = pipe.recv()
        except (EOFError, OSError):
            os._exit(1)
        if kind == "train":
            stop.clear()
            jobs.put(tuple(values))
        else:
            stop.set()


if __name__ == "__main__":
    main()
