"""Work on a cluster of two nodes: the same bytes, and what becomes of workers, nodes and drivers that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bglora
from bglora.engine.events import Event, ItemProgress, ItemStarted, WorkerChanged
from bglora.engine.executors.ray import Limits, RayExecutor
from bglora.engine.runner import RunRequest
from bglora.engine.stage import Stage
from bglora.errors import TimeIsUp, UserError
from tests.engine.cluster_toys import NODE, ROOT, DeadlyOnce, Doomed, Hanging, Meeting, SideBySide, cluster, remove
from tests.engine.projects import Project, Slow, everything
from tests.engine.toys import Double, Join, Split, contents
from tests.ray_processes import MARK, left

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix"),
    pytest.mark.xdist_group("ray"),
]
HANDS = "ray::Hands"
"""What Ray calls the processes of our workers."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    with cluster() as found:
        yield found


@pytest.fixture
def executor(nodes: Any) -> Iterator[RayExecutor]:
    made = RayExecutor()
    yield made
    made.close()


def sources(project: Project, names: str = "abcd", lines: int = 5) -> Project:
    for name in names:
        project.source(name, *[f"{name} {k}" for k in range(lines)], "bad")
    return project


def on_cluster(root: Path, stages: list[Stage], executor: RayExecutor) -> Project:
    project = Project(root, stages, executor=executor)
    executor.listener = project.events.append
    return sources(project)


def workers(project: Project) -> list[WorkerChanged]:
    return [one for one in project.events if isinstance(one, WorkerChanged)]


def test_a_cluster_makes_the_same_bytes_as_one_process(tmp_path: Path, executor: RayExecutor) -> None:
    one = sources(Project(tmp_path / "1", everything()))
    two = on_cluster(tmp_path / "2", [Split(), Meeting(), Join(), Slow()], executor)
    assert one.run().failures == two.run().failures
    assert contents(one.root) == contents(two.root)
    assert len(list((tmp_path / "places").iterdir())) == 2, "both nodes worked"
    told = [one for one in workers(two) if (one.stage, one.state) == ("double", "working")]
    assert {one.item for one in told} == set("abcd") and len({one.worker for one in told}) == 2
    assert two.started() == []
    assert {path.name for path in (two.root / ".bglora").iterdir()} == {"ledger.sqlite", "lock", "steps.log"}


def test_the_item_of_a_worker_that_is_killed_is_made_elsewhere(tmp_path: Path, executor: RayExecutor) -> None:
    clean = sources(Project(tmp_path / "clean"))
    clean.run()
    project = on_cluster(tmp_path / "p", [Split(), DeadlyOnce(), clean.stages[2]], executor)
    result = project.run()
    assert [one.picture for one in result.failures] == ["a/05", "b/05", "c/05", "d/05"]
    assert contents(project.root) == contents(clean.root)
    (lost,) = (one for one in workers(project) if one.state == "lost")
    assert (lost.item, lost.text) == ("b", "its process died")
    assert "b is made once more" in project.notices()


def test_a_worker_that_hangs_is_lost_after_its_time_and_its_item_fails_after_its_tries(
    tmp_path: Path, executor: RayExecutor
) -> None:
    project = on_cluster(tmp_path, [Split(), Hanging()], executor)
    executor.limits = Limits(retries=1, silence=1.5)
    result = project.run()
    failed = {one.picture: one.reason for one in result.failures if one.item == "b"}
    assert set(failed) == {f"b/{k:02d}" for k in range(6)}
    assert "2 workers that had it were lost; of the last one, it gave no sign of progress for 1.5 s." in failed["b/00"]
    assert sorted(path.name for path in (tmp_path / "doubled").iterdir() if path.is_dir()) == ["a", "c", "d"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs a folder that other processes do not see")
def test_a_folder_that_workers_do_not_see_is_told_before_any_work(tmp_path: Path, executor: RayExecutor) -> None:
    sources(Project(tmp_path / "p"))
    own = os.open(tmp_path, os.O_RDONLY)
    try:
        project = on_cluster(Path(f"/proc/self/fd/{own}/p"), [Split(), Double()], executor)
        with pytest.raises(UserError) as caught:
            project.run()
    finally:
        os.close(own)
    what, where, cure = str(caught.value).split("\n")
    assert what == "2 of 2 nodes of the cluster do not share the project folder."
    assert f"/proc/self/fd/{own}/p is not the same there" in where and "same path" in cure
    assert not [one for one in project.events if isinstance(one, ItemStarted)]
    assert sorted(path.name for path in (tmp_path / "p/.bglora").iterdir()) == ["ledger.sqlite", "lock"]


def test_when_time_is_up_no_worker_is_left_and_the_same_command_goes_on(tmp_path: Path, executor: RayExecutor) -> None:
    project = on_cluster(tmp_path, [Split(), SideBySide()], executor)
    project.settings.update({"pause": 0.05, "slow.steps": 400})
    project.run(RunRequest(stages=("split",)))  # its workers go on with what follows
    with pytest.raises(TimeIsUp):
        project.run(RunRequest(max_time=4.0))
    executor.close()
    assert not left(str(os.getpid()), HANDS, patience=10.0)
    before = (tmp_path / ".bglora/steps.log").read_text().splitlines()
    assert 0 < len(before) < 4 * 400
    project.settings["pause"] = 0.0
    assert {item for _, item in project.started()} == set("abcd")
    steps = (tmp_path / ".bglora/steps.log").read_text().splitlines()
    assert sorted(steps) == sorted(f"{name} {k}" for name in "abcd" for k in range(1, 401)), "steps were repeated"


def drive(root: Path, pause: float, mark: str, address: str | None) -> subprocess.Popen[str]:
    """A driver in a process of its own, on the cluster of this address or on one that it starts."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), MARK: mark}
    environment |= {"RAY_ADDRESS": address} if address else {}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.engine.projects", str(root), "ray", str(pause)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
    )  # fmt: skip


def await_steps(root: Path, driver: subprocess.Popen[str]) -> None:
    log = root / ".bglora/steps.log"
    until = time.monotonic() + 120
    while not log.exists():
        assert driver.poll() is None and time.monotonic() < until, driver.communicate()
        time.sleep(0.1)


def test_a_driver_that_is_killed_leaves_no_worker_and_the_same_command_goes_on(tmp_path: Path, nodes: Any) -> None:
    clean = sources(Project(tmp_path / "clean", everything()))
    clean.run()
    project = sources(Project(tmp_path / "p", everything()))
    driver = drive(project.root, 30.0, str(os.getpid()), nodes.address)
    await_steps(project.root, driver)
    driver.kill()
    driver.communicate()
    assert not left(str(os.getpid()), HANDS, patience=30.0)
    recorded = project.fingerprints()
    assert {stage for stage, _ in recorded} == {"split", "double", "join"}
    out, errors = drive(project.root, 0.0, str(os.getpid()), nodes.address).communicate()
    assert out.split()[1:] == [f"slow:{name}" for name in "abcd"], errors
    assert contents(project.root) == contents(clean.root)
    assert len((project.root / ".bglora/steps.log").read_text().splitlines()) <= 4 * 5 + 2


def test_ctrl_c_on_a_cluster_of_its_own_leaves_no_process_at_all(tmp_path: Path) -> None:
    project = sources(Project(tmp_path / "p", [Split(), Slow()]))
    mark = f"{os.getpid()} alone"
    driver = drive(project.root, 0.1, mark, None)
    await_steps(project.root, driver)
    os.killpg(driver.pid, signal.SIGINT)
    out, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130, errors
    assert "Stopped by you" in out and "Run the same command" in out
    assert not left(mark, "", patience=20.0)
    project.settings["pause"] = 0.0
    project.run()
    steps = (project.root / ".bglora/steps.log").read_text().splitlines()
    assert sorted(steps) == sorted(f"{name} {k}" for name in "abcd" for k in range(1, 6)), "steps were repeated"


def test_a_drawn_film_is_the_same_byte_for_byte(tmp_path: Path, nodes: Any) -> None:
    import numpy as np
    from PIL import Image

    ground = np.random.default_rng(0).integers(40, 200, (48, 64, 3)).astype(np.uint8)
    for film in ("walk", "run"):
        folder = tmp_path / "films" / film
        folder.mkdir(parents=True)
        for number in range(6):
            picture = ground.copy()
            picture[16:32, 4 + 6 * number : 14 + 6 * number] = (230, 30, 30)
            Image.fromarray(picture).save(folder / f"{number:03d}.png")
        ground = ground[::-1]
    films = [tmp_path / "films" / film for film in ("walk", "run")]
    made = {}
    for executor in ("local", "ray"):
        project = bglora.init(tmp_path / executor / "film", films=films)
        project.jobs = 2
        assert project.run(to="inpaint", executor=executor).exit_code == 0
        made[executor] = contents(project.root)
    assert made["local"] == made["ray"]
    assert sum(path.startswith("plates/") for path in made["ray"]) >= 4


def test_the_items_of_a_node_that_goes_away_are_made_elsewhere(
    tmp_path: Path, nodes: Any, executor: RayExecutor
) -> None:
    third = nodes.add_node(**NODE)
    (tmp_path / "doomed").write_text(third.node_id)
    project = on_cluster(tmp_path / "p", [Split(), Doomed()], executor)
    runner = project.runner()

    def heard(event: Event) -> None:
        project.events.append(event)
        if isinstance(event, ItemProgress) and event.text == third.node_id:
            remove(nodes, third)

    runner.listener = heard
    result = runner.run()
    told = "\n".join(map(str, project.events))
    assert {one.picture for one in result.failures} == {"a/05", "b/05", "c/05", "d/05"}, told
    (lost,) = (one for one in workers(project) if one.state == "lost" and one.item)
    assert lost.text in ("its node went away", "its process died"), "the process may be noticed first"
    assert len([path for path in (project.root / "doubled").iterdir() if path.is_dir()]) == 4
