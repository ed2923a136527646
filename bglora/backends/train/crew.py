"""The processes of one training, as the process that started them sees them.

They are started by `accelerate launch`, each calls back on a pipe of its own, and is then handed one training after
another. A closed pipe ends its process: they end with this one, and when one of them dies.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import site
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge, wait
from pathlib import Path
from typing import IO, Any

import psutil

from bglora.errors import MachineError, first_line
from bglora.training.job import Paused, TrainJob, TrainResult

SETTING = "train.processes"
MODULE = "bglora.backends.train.worker"
ADDRESS, KEY = "BGLORA_CREW_ADDRESS", "BGLORA_CREW_KEY"
"""Environment of the processes: where they call back, and what they prove with that it is them."""
PATIENCE = 0.2
"""Seconds between looks at whether the run has to stop."""
VERDICT = 5.0
"""Seconds that the launcher has to say how a process died."""
GRACE = 2.0
"""Seconds in which the others may tell why they ended, when one has."""
FAILURE = re.compile(r"^ *rank *: (\d+) .*?exitcode *: (-?\d+)", re.DOTALL | re.MULTILINE)
"""How torch's launcher tells the end of a process; the one that it saw first comes last."""
REASON = re.compile(r"^(?:.*: )?((?:[\w.]+(?:Error|Exception):|No module named) .*)$", re.MULTILINE)
"""The first reason that the log of a start that failed gives."""
NOBODY = (TimeoutError, AuthenticationError, EOFError, ConnectionError, psutil.NoSuchProcess)
"""What comes of listening where nobody calls, or a stranger, or one that died while it did."""
INHERITED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "MASTER_ADDR")
PREFIXES = ("TORCHELASTIC_", "ACCELERATE_", "MASTER_PORT", "ROLE_WORLD_SIZE", "GROUP_WORLD_SIZE")
"""Variables that another launcher may have left; its processes are not ours."""


class ProcessDied(MachineError):
    """One of the processes ended without a word; that ends the run, so that the same command goes on from its state."""


class ProcessFailed(RuntimeError):
    """A bug in one of the processes; its traceback is a note of this error."""


class Crew:
    """Processes that train together.

    Args:
        size: how many.
        threads: CPU threads of each.

    Attributes:
        pids: of the processes, by number; empty before the first training.
    """

    def __init__(self, size: int, threads: int) -> None:
        self.size, self.threads = size, threads
        self.pids: list[int] = []
        self._pipes: list[Connection[Any, Any]] = []
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the crew
        self._launcher: subprocess.Popen[bytes] | None = None
        self._end: Callable[[], object] = lambda: None
        self.closed = False

    def train(self, job: TrainJob, tools: Any) -> TrainResult:
        """Trains one LoRA.

        Raises:
            Paused: `tools.stopping()` said so; the state is saved.
            ProcessDied: one of the processes did.
            BgloraError: what one of them raised.
        """
        try:
            if not self._pipes:
                self._start(tools, job)
            for pipe in self._pipes:
                pipe.send(("train", job, Path(tools.root).resolve(), Path(tools.scratch).resolve()))
            ends = self._follow(tools)
        except BaseException:
            self.close()
            raise
        if not {kind for kind, *_ in ends.values()} <= {"done", "paused", "refused"} or len(ends) < self.size:
            self.close()  # some may be waiting for the others
        return self._ended(job, ends)

    def close(self) -> None:
        """Ends the processes at once; whatever they saved is whole."""
        self.closed = True
        self._end()

    def _start(self, tools: Any, job: TrainJob) -> None:
        """Starts the processes and waits until each has called back."""
        environment = _environment(_cards(self.size))
        with socket.create_server(("127.0.0.1", 0), backlog=self.size) as server:
            key = secrets.token_hex(32)
            environment |= {ADDRESS: str(server.getsockname()[1]), KEY: key}
            tools.progress(0, 1, f"starting {self.size} processes")
            self._launcher = subprocess.Popen(
                _command(self.size, self.threads),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                **_apart(),
            )
            known: list[psutil.Process] = []
            self._end = weakref.finalize(self, _end, self._launcher, self._pipes, known)
            found: dict[int, tuple[Connection[Any, Any], int]] = {}
            server.settimeout(PATIENCE)
            while len(found) < self.size:
                if tools.stopping():
                    raise Paused(f"{job.scene} before its first step")
                with suppress(*NOBODY):
                    number, pipe, pid = _answer(server, key.encode())
                    known.append(psutil.Process(pid))
                    found[number] = pipe, pid
                if self._launcher.poll() is not None:
                    raise self._no_start()
        self._pipes += [found[number][0] for number in range(self.size)]
        self.pids = [found[number][1] for number in range(self.size)]

    def _no_start(self) -> MachineError:
        reason = REASON.search(self._logged())
        said = f": {reason[1].strip().rstrip('.')}" if reason else ""
        return MachineError(
            f"The {self.size} processes of the training could not start{said}.",
            where=SETTING,
            cure=f"bglora set {SETTING} 1, to train in one; `bglora doctor` looks at the installation.",
        )

    def _follow(self, tools: Any) -> dict[int, tuple[Any, ...]]:
        """Hears the processes until all have ended this training, or one has and the others do not follow. Returns what
        they said last, by number."""
        ends: dict[int, tuple[Any, ...]] = {}
        asked, deadline = False, float("inf")
        while len(ends) < self.size and time.monotonic() < deadline:
            if not asked and tools.stopping():
                asked = True
                self._ask_to_stop()
            waiting = [pipe for number, pipe in enumerate(self._pipes) if number not in ends]
            for pipe in wait(waiting, timeout=PATIENCE):
                number = self._pipes.index(pipe)  # type: ignore[arg-type]
                kind, *values = _heard(self._pipes[number])
                if kind == "progress":
                    tools.progress(*values)
                    continue
                ends[number] = (kind, *values)
                if kind in ("died", "refused", "crashed"):
                    deadline = min(deadline, time.monotonic() + GRACE)
        if "died" in {kind for kind, *_ in ends.values()}:
            self._await_verdict()
        return ends

    def _ask_to_stop(self) -> None:
        for pipe in self._pipes:
            with suppress(OSError):  # one that died meanwhile is noticed by its pipe
                pipe.send(("stop",))

    def _await_verdict(self) -> None:
        """Lets the launcher see the end of the processes and write down how they died."""
        for pipe in self._pipes:
            pipe.close()
        assert self._launcher is not None
        with suppress(subprocess.TimeoutExpired):
            self._launcher.wait(VERDICT)

    def _ended(self, job: TrainJob, ends: Mapping[int, tuple[Any, ...]]) -> TrainResult:
        """What the ends of all processes amount to. Where one dies, the others fail in talking to it."""
        backwards = reversed(list(ends.items()))
        by_kind = {kind: (number, values) for number, (kind, *values) in backwards}  # the first of each
        if "refused" in by_kind:
            raise by_kind["refused"][1][0]
        if "died" in by_kind:
            raise self._death(job, by_kind["died"][0])
        if "crashed" in by_kind:
            number, (told, trace) = by_kind["crashed"]
            failed = ProcessFailed(f"{told} (process {number + 1} of {self.size})")
            failed.add_note(trace)
            raise failed
        if "paused" in by_kind:
            raise Paused(by_kind["paused"][1][0])
        result: TrainResult = ends[0][1]
        return result

    def _death(self, job: TrainJob, number: int) -> ProcessDied:
        """The launcher knows best who was the first, and how; it ends the others with SIGTERM.

        One that was killed comes first all the same: the others fail in talking to it, and may be seen to earlier.
        """
        failures = [(int(one[1]), int(one[2])) for one in FAILURE.finditer(self._logged())]
        killed = [one for one in failures if one[1] < 0 and one[1] != -signal.SIGTERM]
        how = ""
        if failures:
            number, code = (killed or failures)[-1]
            how = f": {_named(code)}"
        return ProcessDied(
            f"Process {number + 1} of {self.size} that trained together died{how}.",
            where=f"train, {job.scene}; its last saved state is kept",
            cure="Run the same command to go on from there. Often the memory was too small: "
            f"close other programs, or: bglora set {SETTING} 1",
        )

    def _logged(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")


def refuse_other_launchers() -> None:
    """Raises MachineError in a process that another `accelerate launch` or torchrun has started beside others."""
    if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise MachineError(
            "bglora starts the processes of a training by itself; it was started as one of several.",
            where="accelerate launch, or torchrun",
            cure=f"bglora set {SETTING} {os.environ['WORLD_SIZE']}, then: bglora train",
        )


def _answer(server: socket.socket, key: bytes) -> tuple[int, Connection[Any, Any], int]:
    """Takes one call: the process's number, its pipe, its process id. Nobody else knows the key."""
    caller, _ = server.accept()
    caller.settimeout(None)
    pipe: Connection[Any, Any] = Connection(caller.detach())
    deliver_challenge(pipe, key)
    answer_challenge(pipe, key)
    number, pid = pipe.recv()
    return number, pipe, pid


def _heard(pipe: Connection[Any, Any]) -> tuple[Any, ...]:
    try:
        message: tuple[Any, ...] = pipe.recv()
    except (EOFError, OSError):
        return ("died",)
    return message


def _command(size: int, threads: int) -> list[str]:
    """`accelerate launch` with all that a person's own configuration of it would else decide."""
    return [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--config_file", str(Path(__file__).with_name("accelerate.json"))),
        *("--multi_gpu", "--num_machines", "1", "--num_processes", str(size), "--main_process_port", "0"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", str(threads)),
        *("--max_restarts", "0", "--module", MODULE),
    ]


def _cards(size: int) -> int:
    """How many graphics cards the processes take, one each; 0: they compute on the CPU.

    Raises:
        MachineError: there are fewer, or one is named for all.
    """
    import torch

    from bglora.nets.device import ENVIRONMENT, device, give_back

    place = device()
    if place.type == "cpu":
        return 0
    if place.index is not None:
        raise MachineError(
            f"{size} processes can't all compute on {place}; each takes a card of its own.",
            where=f"{SETTING}; environment variable {ENVIRONMENT}",
            cure=f"unset {ENVIRONMENT}, or: bglora set {SETTING} 1; CUDA_VISIBLE_DEVICES chooses cards",
        )
    there = torch.cuda.device_count()
    if there < size:
        raise MachineError(
            f"{size} processes need a card each, and there {'is' if there == 1 else 'are'} {there}.",
            where=SETTING,
            cure=f"bglora set {SETTING} {there}",
        )
    give_back()  # what this process computed with before; the first of the others has the same card
    return size


def _environment(cards: int) -> dict[str, str]:
    """This process's, without traces of another launcher; ours finds the same packages, whatever lies in its folder."""
    from bglora.nets.device import ENVIRONMENT

    kept = {
        name: value for name, value in os.environ.items() if name not in INHERITED and not name.startswith(PREFIXES)
    }
    kept["PYTHONSAFEPATH"] = "1"
    kept["PYTHONUNBUFFERED"] = "1"
    home = str(Path(__file__).parents[3])
    if home not in {*site.getsitepackages(), site.getusersitepackages()}:
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, (home, kept.get("PYTHONPATH", ""))))
    if not cards:
        kept[ENVIRONMENT] = "cpu"
    loop = {"linux": "lo", "darwin": "lo0"}.get(sys.platform)
    if loop:  # gloo would else look the machine's own name up, which not every network knows
        kept.setdefault("GLOO_SOCKET_IFNAME", loop)
    return kept


def _apart() -> dict[str, Any]:
    """Ctrl-C reaches this process alone, which then asks the others."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _end(launcher: subprocess.Popen[bytes], pipes: list[Connection[Any, Any]], known: list[psutil.Process]) -> None:
    """Ends processes and launcher, whichever are still there."""
    for pipe in pipes:
        pipe.close()
    for process in [*known, *_children(launcher.pid)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    launcher.kill()
    launcher.wait()


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _named(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def told_of(error: BaseException) -> str:
    """A crash in one line."""
    return f"{type(error).__name__}: {first_line(error)}"
