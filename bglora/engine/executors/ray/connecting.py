"""Joining a Ray cluster and leaving it. Ray is imported here alone, and only when it is used."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, util
from typing import Any

from bglora.engine.executors.local import cores
from bglora.errors import MachineError, UserError, first_line

ADDRESS = "RAY_ADDRESS"
"""The environment variable that Ray itself reads."""
_KNOCK = 10.0
"""Seconds that a cluster's head may take to answer."""
_STORE = 256 << 20
"""Bytes of shared memory of a cluster that is started here. Pictures go through the project folder, not through Ray."""


def check_installed() -> None:
    """Raises `MachineError` if Ray is not there. Nothing is imported to find out."""
    if util.find_spec("ray") is None:
        raise MachineError("Ray is not installed.", where="--executor ray", cure="pip install 'bglora[ray]'")


class Connection:
    """A cluster that was joined, or one on this machine that was started for the purpose.

    Args:
        address: as `ray.init` takes it (`10.0.0.5:6379`, `auto`); by default what RAY_ADDRESS says, and without either
            a cluster is started on this machine.
    """

    def __init__(self, address: str = "") -> None:
        self.address = address or os.environ.get(ADDRESS, "")
        self.ray: Any = None
        self._ours = False

    def join(self) -> Any:
        """Ray, connected.

        Raises:
            MachineError: Ray is not installed. UserError: there is no such cluster, or it is of another kind.
        """
        if self.ray is None:
            check_installed()
            if self.address.startswith("ray://"):
                raise UserError(
                    "Ray Client is not enough: the command itself reads and writes the project folder.",
                    where=f"{ADDRESS} or --ray-address: {self.address}",
                    cure="Run the command on a node of the cluster, with --ray-address auto",
                )
            self._knock()
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers
            ray = import_module("ray")
            if not ray.is_initialized():
                self._initialize(ray)
                self._ours = True
            self.ray = ray
        return self.ray

    def _initialize(self, ray: Any) -> None:
        here: dict[str, Any] = {"num_cpus": cores(), "include_dashboard": False, "object_store_memory": _STORE}
        where: dict[str, Any] = {"address": self.address} if self.address else {"address": "local", **here}
        try:
            with _signals_kept():
                ray.init(log_to_driver=False, logging_level="ERROR", **where)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
            if not self.address:
                raise MachineError(
                    f"Ray could not start on this machine: {first_line(error)}",
                    where="--executor ray",
                    cure="Leave --executor out to work without it.",
                ) from error
            raise self._nobody(first_line(error)) from error
        # Ray prints what befalls its workers on stdout, where --json must stand alone; it is told as events. There is
        # no public switch: log_to_driver is about the workers' own words only. Ray's debugger uses this one.
        vars(import_module("ray._private.worker"))["_worker_logs_enabled"] = False

    def _knock(self) -> None:
        """Ray would try for minutes to reach an address at which nobody is."""
        if self.address in ("", "auto", "local"):
            return
        host, _, port = self.address.rpartition(":")
        if not host or not port.isdecimal():
            raise self._nobody("an address is HOST:PORT, or auto")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK).close()
        except (OSError, OverflowError) as error:
            raise self._nobody(first_line(error)) from error

    def _nobody(self, reason: str) -> UserError:
        return UserError(
            f"There is no Ray cluster to join: {reason.rstrip('.')}.",
            where=f"{ADDRESS} or --ray-address: {self.address}",
            cure="Start one: ray start --head; leave the address out for one here; or, where it wants a token, "
            "set RAY_AUTH_MODE=token in the environment.",
        )

    def leave(self) -> None:
        """Ends the connection, and the cluster if it was started for it."""
        if self._ours:
            with _signals_kept():
                self.ray.shutdown()
        self.ray, self._ours = None, False


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray sets a handler of its own for SIGTERM: the run's is put back, or it would not stop in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def on_node(name: str) -> Any:
    """The strategy that places an actor or a task on one node and on no other."""
    strategies = import_module("ray.util.scheduling_strategies")
    return strategies.NodeAffinitySchedulingStrategy(name, soft=False)
