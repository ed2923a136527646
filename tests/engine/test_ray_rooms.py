"""How many workers a node has room for, and what is told when nodes can't work. No cluster is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import bglora
from bglora.engine.executors.ray.connecting import Connection
from bglora.engine.executors.ray.fleet import Fleet
from bglora.engine.executors.ray.nodes import Node, WorkerNeeds, alive, no_room, rooms
from bglora.engine.executors.ray.sharing import Token, _looker, judge, refusal
from bglora.engine.executors.ray.workers import Workforce
from bglora.errors import UserError

CPU = Node("c", "cpu01", cpus=16, gpus=0, memory_gb=64)
GPU = Node("g", "gpu01", cpus=32, gpus=4, memory_gb=256, card_gb=24)


def told(nodes: list[Node], needs: WorkerNeeds, parallel: bool = True) -> dict[str, tuple[int, float, float]]:
    """Node to workers, cores and cards of each."""
    found = rooms(nodes, needs, parallel)
    return {name: (room.workers, round(room.claim.cpus, 3), round(room.claim.gpus, 3)) for name, room in found.items()}


def test_work_without_a_network_takes_a_core_each_as_far_as_memory_goes() -> None:
    assert told([CPU, GPU], WorkerNeeds(memory_gb=1)) == {"c": (16, 1, 0), "g": (32, 1, 0)}
    assert told([CPU, GPU], WorkerNeeds(memory_gb=10)) == {"c": (6, 1, 0), "g": (25, 1, 0)}
    assert told([CPU], WorkerNeeds(cpus=0.01, memory_gb=0.1)) == {"c": (640, 0.01, 0)}


def test_models_share_a_card_as_far_as_its_memory_goes_and_nodes_without_cards_rest() -> None:
    assert told([CPU, GPU], WorkerNeeds(memory_gb=4, gpu_gb=5.5)) == {"g": (16, 1, 0.25)}
    assert told([CPU, GPU], WorkerNeeds(memory_gb=4, gpu_gb=20)) == {"g": (4, 1, 1)}
    assert told([GPU], WorkerNeeds(memory_gb=4, gpu_gb=40)) == {"g": (4, 1, 1)}, "it may halve its batches"
    unknown = Node("u", "u", cpus=8, gpus=2, memory_gb=64)
    assert told([unknown], WorkerNeeds(memory_gb=4, gpu_gb=5)) == {"u": (2, 1, 1)}
    assert told([CPU], WorkerNeeds(memory_gb=4, gpu_gb=5.5)) == {"c": (16, 1, 0)}, "without any card as on one machine"


def test_trainings_have_cards_to_themselves_or_a_node_without() -> None:
    assert told([CPU, GPU], WorkerNeeds(memory_gb=8), parallel=False) == {"g": (4, 8, 1)}
    assert told([CPU, GPU], WorkerNeeds(memory_gb=8, gpus=2), parallel=False) == {"g": (2, 16, 2)}
    assert told([CPU, GPU], WorkerNeeds(memory_gb=8, gpus=8), parallel=False) == {}
    assert told([CPU], WorkerNeeds(memory_gb=8, gpus=2), parallel=False) == {"c": (1, 16, 0)}


def test_a_worker_that_fits_nowhere_is_told_with_what_there_is() -> None:
    assert rooms([CPU], WorkerNeeds(memory_gb=100), True) == {}
    what, where, cure = str(no_room("train", [CPU], WorkerNeeds(100, gpus=2))).split("\n")
    assert (
        what == "No node of the cluster has room for a worker of train: it takes 100.0 GB of memory, 2 graphics cards."
    )
    assert where == "cpu01: 16 cores, 0 graphics cards, 64.0 GB memory"
    assert "project.toml" in cure


def test_a_head_that_lends_nothing_and_the_dead_do_not_work() -> None:
    listed = [
        {"NodeID": "1", "Alive": True, "NodeManagerHostname": "head", "Resources": {"memory": 8.0 * 2**30}},
        {"NodeID": "2", "Alive": False, "NodeManagerHostname": "gone", "Resources": {"CPU": 8.0}},
        {"NodeID": "3", "Alive": True, "NodeManagerHostname": "here", "Resources": {"CPU": 8.0, "memory": 2.0**33}},
    ]
    assert alive(listed) == [Node("3", "here", 8.0, 0.0, 8.0)]


def test_a_node_reads_the_token_that_was_laid_and_no_other(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    token, other = Token(tmp_path / "p"), Token(tmp_path / "p")
    token.lay()
    look = _looker()
    at = str(token.path)
    answer = look(at, token.secret, [])
    assert (answer["wrong"], answer["version"]) == ("", bglora.__version__) and answer["card_gb"] >= 0
    assert look(at, token.secret, [str(film)])["wrong"] == f"{film} is not the same there"
    assert look(at, other.secret, [])["wrong"] == look(str(other.path), "", [])["wrong"]
    assert look(at, other.secret, [])["wrong"] == f"{tmp_path / 'p'} is not the same there"
    token.take_away()
    assert list((tmp_path / "p/.bglora").iterdir()) == []


class Cluster:
    """As much of Ray as asking nodes takes; the test answers for them."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.asked: list[tuple[str, list[str], Future[Any]]] = []

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "NodeID": name.encode().hex().ljust(56, "0"),
                "Alive": True,
                "NodeManagerHostname": name,
                "Resources": {"CPU": 1.0},
            }
            for name in self.names
        ]

    def remote(self, *made: Any, **_: Any) -> Any:
        def options(scheduling_strategy: Any, **_: Any) -> Any:
            def call(token: str, secret: str, beside: list[str]) -> Any:
                answer: Future[Any] = Future()
                name = bytes.fromhex(scheduling_strategy.node_id).rstrip(b"\0").decode()
                self.asked.append((name, beside, answer))
                return SimpleNamespace(future=lambda: answer)

            return SimpleNamespace(remote=call)

        return SimpleNamespace(options=options) if made else self.remote


def test_a_node_that_joins_late_is_asked_about_what_the_next_stage_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr("bglora.engine.executors.ray.fleet._LOOK", 0.0)
    fine = {"wrong": "", "version": bglora.__version__, "card_gb": 0.0}
    cluster, film = Cluster(), tmp_path / "film.mp4"
    fleet = Fleet(Workforce(cluster), tmp_path, lambda event: None)

    def answers(name: str, beside: list[Path], answer: dict[str, Any]) -> None:
        found = [one for one in cluster.asked if one[:2] == (name, [str(path) for path in beside])]
        if found and not found[-1][2].done():
            found[-1][2].set_result(answer)

    def first() -> bool:
        answers("one", [], fine)
        return False

    def second() -> bool:
        answers("late", [], fine)  # to the question of the stage before
        answers("one", [film], fine)
        answers("late", [film], {**fine, "wrong": f"{film} is not the same there"})
        return False

    cluster.names = ["one"]
    fleet.check([], first)
    cluster.names = ["one", "late"]
    fleet.look()
    with pytest.raises(UserError, match="do not see what the settings name") as caught:
        fleet.check([film], second)
    assert "node late" in caught.value.where and "node one" not in caught.value.where
    assert list((tmp_path / ".bglora").iterdir()) == []


def test_what_is_wrong_with_nodes_is_told_by_name(tmp_path: Path) -> None:
    fine = {"wrong": "", "version": bglora.__version__, "card_gb": 80.0}
    assert judge(GPU, fine) == (Node("g", "gpu01", 32, 4, 256, 80.0), "")
    wrong = [judge(CPU, {**fine, "wrong": "/p is not the same there"}), judge(GPU, {**fine, "version": "9.9"})]
    what, where, cure = str(refusal(Path("/p"), wrong, 5)).split("\n")
    assert what == "2 of 5 nodes of the cluster do not share the project folder."
    assert where == (
        f"node cpu01: /p is not the same there; node gpu01: bglora 9.9 is installed there, {bglora.__version__} here"
    )
    assert "same path" in cure
    beside = str(refusal(tmp_path, wrong, 5)).split("\n")
    assert "what the settings name outside the project" in beside[0] and "same path" in beside[2]
    bare = str(refusal(tmp_path, [judge(CPU, {**fine, "version": ""})], 1)).split("\n")
    assert "can't work on the project" in bare[0] and "bglora is not installed there" in bare[1]
    assert judge(CPU, TimeoutError())[1] == "it does not answer"


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:1", "refused"), ("the-cluster", "an address is HOST:PORT, or auto"), ("ray://a:1", "Ray Client")],
)
def test_an_address_at_which_no_cluster_is_told_at_once(address: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        Connection(address).join()
    what, where, cure = str(caught.value).split("\n")
    assert said in what and address in where and cure


def test_ray_is_imported_only_where_it_is_used() -> None:
    code = "import sys; from bglora.engine.executors.ray import RayExecutor; RayExecutor(); print('ray' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True,
        env=dict(os.environ),
    )  # fmt: skip
    assert answer.stdout == "False\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_the_page_for_slurm_is_a_script() -> None:
    script = Path(__file__).parents[2] / "templates" / "cluster" / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text(encoding="utf-8")
    assert all(len(line) <= 120 for line in text.splitlines())
    assert "--executor ray" in text and "--max-time" in text
