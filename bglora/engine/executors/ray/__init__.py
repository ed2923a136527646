"""Items made on a Ray cluster: actors that each load a backend once, results recorded by the driver alone.

connecting  joining the cluster              sharing  does every node see the project folder?
nodes       what they have, who fits there   fleet    which nodes work
workers     the actors                       scheduling  one stage's items on their way
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from bglora.engine.events import Listener, silent
from bglora.engine.executors.ray.connecting import Connection, check_installed
from bglora.engine.executors.ray.fleet import Fleet
from bglora.engine.executors.ray.nodes import WorkerNeeds
from bglora.engine.executors.ray.scheduling import Limits, Shift
from bglora.engine.executors.ray.workers import Workforce
from bglora.engine.tools import Progress, Result, StageJob, Task

__all__ = ["Limits", "RayExecutor", "WorkerNeeds"]


class RayExecutor:
    """Makes items on a Ray cluster. The project folder lies at the same path on all nodes.

    Args:
        address: of the cluster; see `Connection`. It is joined when there is work.
        needs: by a stage's name what one of its workers takes.
        limits: how many workers, how often an item is tried, how long a worker may be silent.
        listener: hears what the workers do.

    Raises:
        MachineError: Ray is not installed.
    """

    def __init__(
        self,
        address: str = "",
        needs: Callable[[str], WorkerNeeds] = lambda stage: WorkerNeeds(),
        limits: Limits = Limits(),  # noqa: B008 - frozen
        listener: Listener = silent,
    ) -> None:
        check_installed()
        self.needs, self.limits, self.listener = needs, limits, listener
        self._connection = Connection(address)
        self._fleet: Fleet | None = None

    def run(
        self, job: StageJob, tasks: Iterable[Task], report: Progress, stopping: Callable[[], bool]
    ) -> Iterator[Result]:
        """Makes the tasks; see `Executor.run`.

        Raises:
            UserError: there is no such cluster, or a node does not share the project folder. MachineError: no node has
                room for a worker, or none is left.
        """
        try:
            if self._fleet is None:
                self._fleet = Fleet(Workforce(self._connection.join()), job.root, self.listener)
            needs = self.needs(job.stage.name)
            self._fleet.check(needs.beside, stopping)
            if not stopping():
                shift = Shift(self._fleet, job, needs, self.limits, self.listener, report, stopping)
                yield from shift.results(tasks)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends all workers and leaves the cluster."""
        if self._fleet is not None:
            self._fleet.force.end_all()
            self._fleet.close()
            self._fleet = None
        self._connection.leave()
