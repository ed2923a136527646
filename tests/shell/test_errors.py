"""Everything that a person can get wrong at the command line, told in three lines with the right exit code."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bglora.errors import BgloraError, Interrupted, MachineError, TimeIsUp, UserError
from tests.shell.conftest import Answer, process

Command = Callable[..., Answer]


@pytest.mark.parametrize(
    ("kind", "code"), [(BgloraError, 2), (UserError, 2), (MachineError, 3), (TimeIsUp, 75), (Interrupted, 130)]
)
def test_every_kind_of_error_has_three_lines_and_its_exit_code(kind: type[BgloraError], code: int) -> None:
    error = kind("What.", where="where", cure="cure")
    assert str(error) == "What.\nwhere\ncure"
    assert error.exit_code == code


@pytest.mark.parametrize(
    ("words", "what", "where", "cure"),
    [
        (["foo"], "No such command 'foo'.", "bglora", "--help"),
        (["run", "--foo"], "No such option: --foo", "bglora run", "bglora run --help"),
        (["status", "--limit", "x"], "--limit", "bglora status", "bglora status --help"),
        (["status", "--limit", "0"], "--limit", "bglora status", "--help"),
        (["status", "--executor", "cloud"], "'--executor': 'cloud' is not one of", "bglora status", "--help"),
        (["init"], "FILM-NAME", "bglora init", "--help"),
        (["run"], "Say what to run.", "bglora run", "bglora run --all"),
        (["status"], "There is no bglora project here.", "", "bglora init"),
        (["-C", "nowhere", "status"], "There is no bglora project here.", "nowhere", "bglora init"),
        (["init", "a", "--film", "no film.mp4"], "There is no film at this path.", "no film.mp4", "quotes"),
        (["init", "a", "--layers", "none"], "There is no folder of layers at this path.", "none", "--layers"),
        (["init", ".."], "A project needs a name.", "..", "bglora init film-name"),
        (["init", "a", "--preset", "gpu"], "There is no preset 'gpu'.", "--preset gpu", "cpu, studio"),
    ],
)
def test_a_mistake_outside_of_a_project(command: Command, words: list[str], what: str, where: str, cure: str) -> None:
    answer = command(*words)
    told = answer.told
    assert answer.code == 2
    assert what in told[0]
    assert where in told[1]
    assert cure in told[2]
    assert answer.out == ""


@pytest.mark.parametrize(
    ("words", "what", "where", "cure"),
    [
        (["get", "ingest.fsp"], "There is no key ingest.fsp.", "ingest.fsp", "The nearest is ingest.fps."),
        (["set", "ingest.fps", "many"], "ingest.fps = 'many' should be a number", "set ingest.fps", "per second"),
        (["settings", "inpiant"], "There is no key inpiant.", "inpiant", "inpaint"),
        (["status", "--set", "ingest.fps"], "--set wants TABLE.KEY=VALUE", "--set ingest.fps", "--set inpaint.engine"),
        (["run", "--to", "paint"], "There is no stage 'paint'.", "paint", "ingest, segment"),
        (["run", "--from", "train", "--to", "ingest"], "train comes after ingest.", "--from train --to ingest", "Swap"),
        (["ingest", "--max-time", "soon"], "'soon' is no time.", "--max-time", "30m"),
        (["ingest", "--retries", "3"], "about workers of a cluster", "--retries", "--executor ray"),
        (["ingest", "--executor", "ray", "--worker-timeout", "x"], "'x' is no time.", "--worker-timeout", "30m"),
        (["ingest", "--executor", "ray", "--worker-timeout", ""], "'' is no time.", "--worker-timeout", "30m"),
        (["ingest", "--executor", "ray", "--worker-timeout", "0"], "lost after 0 s", "--worker-timeout", "more than 0"),
        (["clean", "everything"], "There is nothing called 'everything' to delete.", "to be had", "bglora clean"),
        (["clean", "--yes"], "Say what to delete.", "clean", "bglora clean"),
        (["init", "../film"], "There is a project here already.", "project.toml", "run --all"),
        (["ingest"], "", "", ""),
        (["segment"], "segment works on what ingest makes", "film", "bglora run --to segment"),
        (["set", "train.dim"], "Say what train.dim is to be.", "set train.dim", "bglora set train.dim VALUE"),
        (["drop", "nothing"], "There are no pictures yet to decide about.", "nothing", "bglora run --to ingest"),
        (
            ["rename", "scene-00", "X"],
            "There are no scenes yet to decide about.",
            "scene-00",
            "bglora run --to cluster",
        ),
        (["report", "--dry"], "it has no --dry", "bglora report", "bglora plan"),
        (["drop", "nothing", "--dry"], "it has no --dry", "bglora drop", "bglora plan"),
        (["run", "--all", "--set", "train.base=/no.safetensors"], "no base model at this path", "train.base", "mini"),
        (["plan", "--set", "train.base=no/folder/at/all"], "no base model at this path", "train.base", "mini"),
        (["init", "../x", "--film", "project.toml"], "The file is no film", "project.toml", "complete copy"),
    ],
)
def test_a_mistake_in_a_project(command: Command, words: list[str], what: str, where: str, cure: str) -> None:
    assert command("init", "film").code == 0
    os.chdir("film")
    answer = command(*words)
    told = answer.told
    assert answer.code == 2
    assert what in told[0]
    assert where in told[1]
    assert cure in told[2]


@pytest.mark.parametrize(
    ("words", "what", "cure"),
    [
        (["drop", "walk-s000/9999*"], "No picture is called 'walk-s000/9999*'.", "The nearest is walk-s000/"),
        (["keep", "walk-s00/000000"], "No picture is called 'walk-s00/000000'.", "The nearest is walk-s000/0"),
        (["split", "scene-00", "x"], "There are no scenes yet to decide about.", "bglora run --to cluster"),
        (["retry", "--stage", "paint"], "There is no stage 'paint'.", "ingest, segment"),
    ],
)
def test_a_decision_about_nothing_is_not_written(
    command: Command, frames: Path, words: list[str], what: str, cure: str
) -> None:
    command("init", "film", "--film", frames)
    command("-C", "film", "ingest")
    answer = command("-C", "film", *words)
    assert answer.code == 2
    assert answer.told[0] == what
    assert cure in answer.told[2]
    assert not Path("film/decisions.toml").exists()


def test_all_mistakes_of_a_manifest_are_told_at_once(command: Command) -> None:
    command("init", "film")
    Path("film/project.toml").write_text("[ingest]\nfps = -1\nfsp = 2\n[x]\n[train]\ndim = 'a'\nalpha = 0\n")
    answer = command("-C", "film", "status")
    assert answer.code == 2
    lines = answer.err.splitlines()
    assert lines[0] == "error: 5 settings are wrong."
    assert [line.removeprefix("where:").strip().split(":")[1] for line in lines[1:6]] == ["2", "3", "4", "6", "7"]
    assert lines[6].startswith("cure:")


def test_no_traceback_without_debug_and_one_with_it(command: Command) -> None:
    assert "Traceback" not in command("status").err
    assert "Traceback" in command("status", "--debug").err
    assert "Traceback" in command("--debug", "status").err


def test_an_error_that_nobody_foresaw_has_three_lines_too(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command("init", "film")
    shutil.rmtree(tmp_path / "film" / "sources")
    monkeypatch.setattr("bglora.project.Project.status", lambda self: 1 / 0)
    answer = command("-C", "film", "status")
    assert answer.code == 1
    assert answer.told[0] == "bglora stumbled: ZeroDivisionError: division by zero"
    assert answer.told[1] == str(tmp_path / "film" / ".bglora" / "logs" / "bglora-error.txt")
    assert "--debug" in answer.told[2]
    assert "ZeroDivisionError" in Path(answer.told[1]).read_text(encoding="utf-8")


def test_a_stage_that_does_not_fit_into_memory_is_stopped_before_it_starts(
    command: Command, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    command("init", "film", "--film", frames)
    assert command("-C", "film", "ingest").code == 0
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2**28))
    assert command("-C", "film", "ingest").code == 0  # it has nothing to do
    answer = command("-C", "film", "segment", "--jobs", "2")
    assert answer.code == 3
    assert answer.told[0].startswith("segment takes about ")
    assert "--jobs 1" in answer.told[2]


def test_what_the_system_refuses_is_told_with_its_path(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command("init", "film")

    def refused(self: object) -> None:
        raise PermissionError(13, "Permission denied", "/films/secret.mp4")

    monkeypatch.setattr("bglora.project.Project.status", refused)
    answer = command("-C", "film", "status")
    assert answer.code == 2
    assert answer.told[:2] == ("The system refuses: Permission denied.", "/films/secret.mp4")


def test_a_missing_package_is_told_with_its_command(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command("init", "film")

    def lacking(self: object) -> None:
        raise ModuleNotFoundError("No module named 'cv2.gapi'", name="cv2.gapi")

    monkeypatch.setattr("bglora.project.Project.status", lacking)
    answer = command("-C", "film", "status")
    assert answer.code == 3
    assert answer.told[0] == "The Python package cv2 is not here."
    assert "pip install opencv-contrib-python-headless" in answer.told[2]


def test_ctrl_c_while_looking_ends_with_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command("init", "film")

    def stopped(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bglora.project.Project.status", stopped)
    answer = command("-C", "film", "status")
    assert answer.code == 130
    assert answer.err.startswith("stopped: Stopped by you; everything done so far is kept.\nwhere:   bglora status\n")
    assert "error" not in answer.err, "a stop that was wanted is none"


def test_two_runs_at_once_are_refused_and_looking_goes_on(command: Command, frames: Path, tmp_path: Path) -> None:
    from bglora.engine.lock import ProjectLock

    command("init", "film", "--film", frames)
    with ProjectLock(tmp_path / "film"):
        answer = process("-C", "film", "ingest", cwd=tmp_path)
        assert answer.returncode == 2
        assert "Another run is working on this project." in answer.stderr
        assert str(os.getpid()) in answer.stderr
        assert process("-C", "film", "status", cwd=tmp_path).returncode == 0
        assert process("-C", "film", "get", "ingest.fps", cwd=tmp_path).returncode == 0
    assert process("-C", "film", "ingest", cwd=tmp_path).returncode == 0


def test_a_ledger_of_a_newer_version_is_not_touched(command: Command, frames: Path, tmp_path: Path) -> None:
    command("init", "film", "--film", frames)
    assert command("-C", "film", "ingest").code == 0
    with sqlite3.connect(tmp_path / "film" / ".bglora" / "ledger.sqlite") as ledger:
        ledger.execute("PRAGMA user_version=99")
    ledger.close()
    answer = command("-C", "film", "ingest")
    assert answer.code == 2
    assert "newer bglora" in answer.told[0]


def test_a_project_of_a_newer_format_is_not_touched(command: Command, tmp_path: Path) -> None:
    command("init", "film")
    manifest = tmp_path / "film" / "project.toml"
    manifest.write_text(manifest.read_text().replace("format = 1", "format = 7"))
    answer = command("-C", "film", "status")
    assert answer.code == 2
    assert "format 7" in answer.told[0]
    assert "pip install --upgrade" in answer.told[2]


@pytest.mark.skipif(os.name == "nt", reason="permissions work differently on Windows")
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, command: Command, frames: Path) -> None:
    command("init", "film", "--film", frames)
    tries = (["status"], ["set", "ingest.fps", "1"], ["ingest"], ["retry"])
    for words in (["status"], ["set", "ingest.fps", "3"]):  # imports what the superuser alone may read
        assert command("-C", "film", *words).code == 0
    (tmp_path / "film").chmod(0o555)
    above = [folder for folder in tmp_path.parents if folder.name.startswith(("pytest-", "popen-"))]
    folders = [tmp_path, *above, frames.parent] if os.geteuid() == 0 else []
    modes = [folder.stat().st_mode for folder in folders]
    for folder in folders:
        folder.chmod(0o755)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # the superuser may write everywhere
    try:
        answers = [command("-C", "film", *words) for words in tries]
    finally:
        os.seteuid(user)
        for folder, mode in zip(folders, modes, strict=True):
            folder.chmod(mode)
        (tmp_path / "film").chmod(0o755)
    assert [answer.code for answer in answers] == [0, 2, 2, 2], [answer.err for answer in answers]
    for answer in answers[1:]:
        assert "written" in answer.told[0]
        assert str(tmp_path / "film") in answer.told[1]


def test_a_librarys_error_is_told_in_one_line_even_if_it_says_nothing() -> None:
    from bglora.errors import first_line

    assert first_line(RuntimeError("\nwhat\nand where")) == "what"
    assert first_line(RuntimeError()) == first_line(RuntimeError(" \n")) == "RuntimeError"


def test_without_ray_a_cluster_is_refused_with_the_command_that_brings_it(
    command: Command, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("init", "film", "--film", frames)
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    answer = command("-C", "film", "ingest", "--executor", "ray")
    assert answer.code == 3
    assert answer.told == ("Ray is not installed.", "--executor ray", "pip install 'bglora[ray]'")


def test_a_cluster_that_is_not_there_is_told_before_any_work(command: Command, frames: Path) -> None:
    command("init", "film", "--film", frames)
    answer = command("-C", "film", "ingest", "--executor", "ray", "--ray-address", "127.0.0.1:1", "--quiet")
    assert answer.code == 2
    what, where, cure = answer.told
    assert "There is no Ray cluster to join" in what and "127.0.0.1:1" in where and "ray start --head" in cure
    assert not list((Path("film") / "frames").glob("*/*.png"))
