"""A small project that is run for real, once, and a page on a copy of it for every test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import bglora
from bglora.decisions import Decisions
from bglora.engine.ledger import ItemRow, Ledger
from bglora.project import Project
from bglora.review.routes import Page, make_app
from tests.stages.drawn_project import folder_of
from tests.whole.drawn_film import place, shot

PORT, TOKEN = 8765, "the-token"
ADDRESS = f"http://127.0.0.1:{PORT}"
ASKING = {"Origin": ADDRESS, "X-Bglora": "1"}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of two places, run to captions, with a LoRA and a test grid laid beside."""
    folder = tmp_path_factory.mktemp("reviewed")
    frames = list(chain(shot(place(3), 6), shot(place(8), 6)))
    film = folder_of(frames, folder / "walk")
    project = bglora.init(folder / "project", films=[film], title="Two places")
    project.set("ingest.fps", 0)
    project.set("ingest.max_per_shot", 0)
    project.jobs = 1
    project.run(to="caption")
    _lay_lora(project.root)
    return project.root


def _lay_lora(root: Path) -> None:
    files = ["loras/scene-00.safetensors", "loras/scene-00/checkpoints/step-000010.safetensors"]
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"LoRA")
    grids = ["grids/scene-00/grid.webp", "grids/scene-00/prompt0-scale070-seed0.webp"]
    grids.append("grids/scene-00/checkpoints/000010/prompt0-scale100-seed1.webp")
    for number, name in enumerate(grids):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((64, 64, 3), 40 * number, np.uint8)).save(root / name)
    ledger = Ledger(root / ".bglora/ledger.sqlite")
    told = {"verdict": [{"word": "good", "cure": "Use it."}], "recommended_scale": 0.7, "recommended_lora": files[0]}
    with ledger.transaction():
        for stage, outputs, record in (("train", files, {}), ("test", grids, told)):
            row = ItemRow("scene-00", "0" * 32, "", "", "", "", "", 1.0, 0, 1, 0, 0)
            ledger.put_item(stage, row, [("scene-00", "scene-00", "made", "", "\n".join(outputs), json.dumps(record))])
    ledger.close()


@dataclass
class Asked:
    """A page and a tab that has it open."""

    project: Project
    client: TestClient
    page: Page

    @property
    def root(self) -> Path:
        return self.project.root

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/api/state").json()
        return found

    def post(self, path: str, **values: Any) -> Any:
        return self.client.post(path, json=values, headers=ASKING)

    def act(self, act: str, **values: Any) -> Any:
        """Does something on the page as it is now."""
        return self.post("/api/act", act=act, revision=self.state["revision"], **values)

    @property
    def decided(self) -> list[dict[str, Any]]:
        return [dict(one.values) for one in Decisions.load(self.root).entries]

    def plates(self) -> list[str]:
        """Plates that were made, of both places."""
        return [name for name, one in self.state["plates"].items() if one["status"] == "made"]


@pytest.fixture
def tab(made: Path, tmp_path: Path) -> Iterator[Asked]:
    """A tab that entered with the token."""
    shutil.copytree(made, tmp_path / "project")
    yield from opened(bglora.open(tmp_path / "project", jobs=1))


def opened(project: Project) -> Iterator[Asked]:
    page = Page(project)
    with TestClient(make_app(page, TOKEN, PORT), base_url=ADDRESS) as client:
        assert client.get(f"/?token={TOKEN}", follow_redirects=False).status_code == 303
        yield Asked(project, client, page)


@pytest.fixture(scope="session")
def looking(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """A tab for tests that only look."""
    root = tmp_path_factory.mktemp("looked at") / "project"
    shutil.copytree(made, root)
    yield from opened(bglora.open(root, jobs=1))


def three_lines(answer: Any) -> tuple[str, str, str]:
    """The error of an answer."""
    values = answer.json()
    assert set(values) == {"what", "where", "cure"} and all(values.values()), values
    return values["what"], values["where"], values["cure"]


Told = Callable[[Any], tuple[str, str, str]]
