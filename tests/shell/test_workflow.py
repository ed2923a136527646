"""The workflow that a user copies: its shell steps run here as on a runner, on a drawn film, and its annotations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import bglora
from bglora.console.annotations import MOST, heard
from tests.shell.conftest import ROOT, process

WORKFLOW = ROOT / "templates" / "ci" / "bglora.yml"
FAST = {
    "train.max_steps": 2, "train.resolution": 64, "train.samples": 0, "test.seeds": 1, "test.steps": 1,
    "test.scales": [0.0], "compose.pictures": 1, "compose.steps": 1,
}  # fmt: skip
"""Settings with which training and painting take a second."""

NEEDED = ("Take over settings and decisions", "See what else is missing", "Run what is not done")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the runner's shell is bash")


def steps() -> list[dict[str, Any]]:
    (job,) = yaml.safe_load(WORKFLOW.read_text("utf-8"))["jobs"].values()
    return list(job["steps"])


@dataclass
class Runner:
    """A runner's home, and the repository that is checked out in it."""

    home: Path
    repository: Path

    def __post_init__(self) -> None:
        programs = self.home / "bglora" / "venv" / "bin"
        programs.mkdir(parents=True)
        for name, words in {"bglora": f"{sys.executable} -m bglora", "python": sys.executable}.items():
            (programs / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            (programs / name).chmod(0o755)

    @property
    def project(self) -> Path:
        return self.home / "bglora" / "projects" / "my-film"

    def job(self, max_time: str, only: Iterable[str] = ()) -> dict[str, tuple[int, str]]:
        """Exit code and stdout of each shell step but the installation, up to the first that fails."""
        told = {name: self.home / name.lower() for name in ("GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT")}
        for path in told.values():
            path.write_text("")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("BGLORA_")},
            **{name: str(path) for name, path in told.items()},
            "GITHUB_STEP_SUMMARY": str(self.home / "summary.md"), "HOME": str(self.home), "PROJECT": "my-film",
            "MAX_TIME": max_time, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "BGLORA_PROJECT__DOWNLOAD": "no",
        }  # fmt: skip
        ends: dict[str, tuple[int, str]] = {}
        for step in steps():
            if "run" not in step or step["name"].startswith("Install") or (only and step["name"] not in only):
                continue
            if any(code for code, _ in ends.values()) and "!cancelled()" not in step.get("if", ""):
                continue
            environment |= dict(line.split("=", 1) for line in told["GITHUB_ENV"].read_text().splitlines())
            environment["PATH"] = os.pathsep.join([*told["GITHUB_PATH"].read_text().split(), os.environ["PATH"]])
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=self.repository, env=environment, capture_output=True, text=True, timeout=180, check=False,
            )  # fmt: skip
            ends[step["name"]] = (done.returncode, done.stdout)
        return ends

    def output(self) -> str:
        return (self.home / "github_output").read_text()


@pytest.fixture
def runner(tmp_path: Path, frames: Path) -> Runner:
    """A repository with the project.toml of a drawn film."""
    made = bglora.init(tmp_path / "made" / "my-film", films=[frames])
    for key, value in FAST.items():
        made.set(key, json.dumps(value))
    repository = tmp_path / "repository"
    repository.mkdir()
    (made.root / "project.toml").rename(repository / "project.toml")
    return Runner(tmp_path / "home", repository)


def test_a_job_stops_in_time_and_the_next_one_goes_on_to_the_end(runner: Runner) -> None:
    first = runner.job("0")
    assert [code for code, _ in first.values()] == [0] * len(first)
    assert runner.output() == "code=75\n"
    assert first["Run what is not done"][1].startswith("::notice title=bglora::The time given by --max-time is over;")
    second = runner.job("10m")
    assert [code for code, _ in second.values()] == [0] * len(second), second
    assert runner.output() == "code=0\n"
    assert "::error" not in "".join(said for _, said in second.values())
    assert list((runner.project / "loras").glob("*.safetensors"))
    assert "| compose | 1 |" in (runner.home / "summary.md").read_text("utf-8")
    assert (runner.project / "report" / "index.html").stat().st_size > 10_000


def test_a_source_that_fails_is_an_annotation_and_the_job_fails_with_its_report(runner: Runner) -> None:
    (runner.project / "sources").mkdir(parents=True)
    (runner.project / "sources" / "torn.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"?" * 500)
    text = (runner.repository / "project.toml").read_text("utf-8").replace("films = [", "films = [] # [", 1)
    (runner.repository / "project.toml").write_text(text, "utf-8")
    ends = runner.job("10m")
    code, said = ends["Run what is not done"]
    assert code == 1 and runner.output() == "code=1\n"
    assert said.startswith("::error title=ingest%3A 1 failure::torn: ")
    assert ends["Write the report"][0] == 0


def test_a_wrong_setting_stops_the_job_before_the_run(runner: Runner) -> None:
    with (runner.repository / "project.toml").open("a", encoding="utf-8") as file:
        file.write("\n[inpain]\nsteps = 3\n")
    ends = runner.job("10m", ["Find the project's folder", *NEEDED])
    code, said = ends["See what else is missing"]
    assert code == 2 and "::error title=wrong%3A project%3A settings::" in said and "inpain" in said
    assert "Run what is not done" not in ends


def test_no_step_lets_an_expression_into_its_shell_and_the_time_to_stop_lies_before_the_end_of_the_job() -> None:
    assert not [step["name"] for step in steps() if "${{" in step.get("run", "")]
    (job,) = yaml.safe_load(WORKFLOW.read_text("utf-8"))["jobs"].values()
    assert job["env"]["MAX_TIME"].endswith("'5h' }}") and job["timeout-minutes"] >= 5 * 60 + 60


def test_after_a_push_which_has_no_inputs_a_run_goes_on_as_well() -> None:
    """Of a push `inputs.rounds` is null, which GitHub takes for 0 when it compares: `inputs.rounds != '0'` fails."""
    (job,) = yaml.safe_load(WORKFLOW.read_text("utf-8"))["jobs"].values()
    assert job["env"]["ROUNDS"] == "${{ inputs.rounds || '20' }}"
    assert not [step["name"] for step in steps() if "inputs." in str(step.get("if", ""))]


def test_failures_of_a_kind_are_one_annotation_and_no_more_than_are_shown() -> None:
    def failed(item: str, what: str) -> str:
        event = {"event": "item-failed", "stage": "segment", "item": item, "what": what, "where": "x", "cure": "50 %"}
        return json.dumps(event)

    (line,) = heard([failed(f"film-s00{k}", "Broken: a,b") for k in range(7)]).annotations()
    names = "film-s000, film-s001, film-s002, film-s003, film-s004 and 2 more"
    assert line == f"::error title=segment%3A 7 failures::{names}: Broken: a,b%0A50 %25"
    lines = list(heard([failed("film-s000", f"Kind {k}") for k in range(40)]).annotations())
    assert len(lines) == MOST and lines[-1].startswith("::error title=bglora::31 more of this kind")


def test_events_of_a_real_command_are_understood_and_other_lines_left_out(tmp_path: Path) -> None:
    done = process("--json", "-C", "nowhere", "status", cwd=tmp_path)
    (line,) = heard([*done.stdout.splitlines(), "no event", "[1]"]).annotations()
    assert done.returncode == 2 and line.startswith("::error title=bglora::")
    assert line.count("%0A") == 2, "what, where, cure"
