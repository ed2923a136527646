"""What the commands do, and that Python can do the same."""

from __future__ import annotations

import inspect
import json
import os
import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

import bglora
from bglora.project.making import slug
from tests.shell.conftest import Answer, process

Command = Callable[..., Answer]


@pytest.mark.parametrize("name", ["harbor", "Harbor_2.final", "a" * 60])
def test_a_plain_name_stays(name: str) -> None:
    assert slug(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "der Löwe", "漢字", "..", "-rf", ".hidden", "a/b", "<script>alert(1)</script>", "it's \"so\"", "nul",
        "com1.txt", "x.", "a" * 99, "\x1b[31m", " ",
    ],
)  # fmt: skip
def test_any_other_name_becomes_a_safe_one_with_six_digits(name: str) -> None:
    import re

    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*)-[0-9a-f]{6}", slug(name))
    assert slug(name) != slug(name + "'")


@pytest.mark.parametrize(
    "name", ["a film", "it's", 'so "good"', "<script>alert(1)<script>", "漢字", "..film", "[red]x[bold]"]
)
def test_films_may_be_called_anything(command: Command, frames: Path, tmp_path: Path, name: str) -> None:
    import shutil

    if os.name == "nt" and set(name) & set('<>"?*|'):
        pytest.skip("Windows knows no such file name")
    film = tmp_path / "in" / name
    shutil.copytree(frames, film)
    assert command("init", name, "--film", film).code == 0
    (root,) = (path.parent for path in tmp_path.glob("*/project.toml"))
    answer = command("-C", root, "ingest")
    assert answer.code == 0, answer.err
    assert command("-C", root, "get", "project.title").out == f"{name}\n"
    assert command("-C", root, "get", "sources.films").out.strip().startswith("[")
    status = command("-C", root, "status")
    assert status.code == 0
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and root not in path.parents]
    assert all(film in path.parents for path in outside)


def test_a_name_that_begins_with_a_dash_comes_after_two_dashes(command: Command, frames: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(frames, tmp_path / "-film")
    assert command("init", "--film", "-film", "--", "-film").code == 0
    (root,) = (path.parent for path in tmp_path.glob("*/project.toml"))
    assert root.name.startswith("film-")
    assert command("-C", root, "ingest").code == 0


def test_init_writes_a_manifest_that_teaches(command: Command, frames: Path, tmp_path: Path) -> None:
    answer = command("init", "film", "--film", frames, "--title", "The Film", "--set", "ingest.fps=1")
    assert answer.code == 0
    assert "bglora -C film run --all" in answer.out
    text = (tmp_path / "film" / "project.toml").read_text(encoding="utf-8")
    assert f'films = ["{frames.as_posix()}"]' in text
    assert 'title = "The Film"' in text
    assert "fps = 1" in text
    assert text.count("#") > 40
    assert (tmp_path / "film" / "sources").is_dir()
    assert bglora.open("film").settings.project.created == date.today().isoformat()


def test_a_project_is_found_from_inside(command: Command, frames: Path) -> None:
    command("init", "film", "--film", frames)
    os.chdir("film/sources")
    assert command("get", "project.name").out == "film\n"


def test_the_second_run_redoes_nothing(command: Command, frames: Path) -> None:
    command("init", "film", "--film", frames, "--set", "ingest.fps=0")
    first = command("-C", "film", "ingest")
    assert first.code == 0
    assert "Kept 8 of 8 frames. Fewer: `bglora set ingest.fps 2`." in first.out, "all are kept: more there can't be"
    second = command("-C", "film", "ingest")
    assert second.out == "Nothing to do: everything is done and up to date.\n"


def test_a_try_on_some_pictures_is_called_one(command: Command, frames: Path, tmp_path: Path) -> None:
    command("init", "film", "--film", frames, "--set", "ingest.fps=0")
    answer = command("-C", "film", "ingest", "--limit", "3")
    assert "This was a try on 3 pictures" in answer.out
    assert len(list((tmp_path / "film" / "frames").rglob("*.png"))) == 3
    assert "Nothing that --only" in command("-C", "film", "ingest", "--only", "no*").out
    assert "1 other item would be" in command("-C", "film", "ingest", "--only", "no*", "--dry").out
    assert "Kept 8 of 8" in command("-C", "film", "ingest").out
    fewer = command("-C", "film", "ingest", "--set", "ingest.max_per_shot=4").out
    assert "Kept 4 of 8" in fewer and "More: `bglora set ingest.max_per_shot 8`." in fewer


def test_dry_says_why_and_does_nothing(command: Command, frames: Path, tmp_path: Path) -> None:
    command("init", "film", "--film", frames)
    command("-C", "film", "ingest")
    before = sorted(tmp_path.rglob("*.png"))
    answer = command("ingest", "-C", "film", "--dry", "--set", "ingest.fps=0")
    assert (
        "settings changed: ingest.fps 2.0 → 0.0" in answer.out or "settings changed: ingest.fps 2.0 → 0" in answer.out
    )
    assert sorted(tmp_path.rglob("*.png")) == before


def test_options_count_before_and_after_the_command(command: Command, frames: Path) -> None:
    command("init", "film", "--film", frames)
    before = command("--json", "-C", "film", "--set", "ingest.fps=3", "get", "ingest.fps")
    after = command("get", "ingest.fps", "--json", "-C", "film", "--set", "ingest.fps=3")
    assert before.lines == after.lines
    assert before.lines[0]["value"] == 3.0
    both = command("--set", "ingest.fps=3", "get", "-C", "film", "ingest", "--set", "ingest.max_per_shot=4", "--json")
    assert (both.lines[0]["value"]["fps"], both.lines[0]["value"]["max_per_shot"]) == (3.0, 4)
    assert command("-C", "nowhere", "get", "-C", "film", "ingest.fps").code == 0


def test_set_and_get(command: Command) -> None:
    command("init", "film")
    assert command("-C", "film", "get", "ingest.crop_bars").out == "true\n"
    answer = command("-C", "film", "set", "ingest.crop_bars", "false")
    assert answer.code == 0
    assert answer.out.startswith("ingest.crop_bars = false\n")
    assert command("-C", "film", "get", "ingest.crop_bars").out == "false\n"
    assert "already" in command("-C", "film", "set", "ingest.crop_bars", "false").out
    assert command("-C", "film", "get", "caption.prefix", "--set", 'caption.prefix="a b"').out == "a b\n"


def test_a_table_is_printed_as_project_toml_takes_it(command: Command) -> None:
    command("init", "film")
    command("-C", "film", "set", "train.characters", '{ kid = ["film-s00?_1"], dog = [] }')
    printed = command("-C", "film", "get", "train").out
    assert 'characters = {kid = ["film-s00?_1"], dog = []}\n' in printed
    written = tomllib.loads(printed)
    assert written["characters"] == {"kid": ["film-s00?_1"], "dog": []}
    assert command("-C", "film", "get", "train.characters").out == '{kid = ["film-s00?_1"], dog = []}\n'


def test_set_takes_a_negative_value(command: Command) -> None:
    command("init", "film")
    assert command("-C", "film", "set", "inpaint.hole_gain_db", "-5").code == 0
    assert command("-C", "film", "get", "inpaint.hole_gain_db").out == "-5.0\n"
    assert command("-C", "film", "set", "inpaint.hole_gain_db", "--quiet", "-4").code == 0


def test_settings_prints_every_key(command: Command) -> None:
    from bglora.settings.manifest import fields

    command("init", "film")
    told = {line["key"]: line for line in command("-C", "film", "settings", "--json").lines}
    assert set(told) == {f"{table}.{key}" for table, keys in fields().items() for key in keys}
    assert told["ingest.fps"]["origin"].startswith("project.toml:")
    assert "Frames kept per second" in command("-C", "film", "settings", "ingest").out


def test_decisions_are_written_and_said(command: Command, frames: Path) -> None:
    command("init", "film", "--film", frames)
    os.chdir("film")
    assert command("run", "--to", "cluster", "--set", "ingest.max_per_shot=0", "--set", "ingest.fps=0").code == 0
    pictures = sorted(f"walk-s000/{path.stem}" for path in Path("frames/walk-s000").glob("*.png"))
    first, last = pictures[0], pictures[-1]
    dropped = command("drop", first, "walk-s000/*", "--reason", "dark").out
    assert f"Dropped from now on: {first}, walk-s000/*." in dropped
    assert command("keep", last).code == 0
    assert command("rename", "scene-00", "The pier").code == 0
    assert command("split", "scene-00", "walk-s000/*").code == 0
    assert command("retry", "--stage", "inpaint").code == 0
    decisions = bglora.open().decisions
    assert (decisions.drops(first), decisions.keeps(last)) == ("dark", True)
    assert decisions.renames() == {"scene-00": "The pier"}
    assert decisions.splits() == [{"scene": "scene-00", "plates": ["walk-s000/*"]}]
    assert decisions.retries("inpaint") == {"*": 1}
    again = command("rename", "scene-00", " The  pier,")
    assert (again.out, bglora.open().decisions) == ("scene-00 is called The pier already.\n", decisions)
    for words in (("rename", "scene-0?", "x"), ("rename", "scene-00", " "), ("merge", "scene-00", "scene-00")):
        assert command(*words).code == 2
    assert bglora.open().decisions == decisions


def test_set_takes_what_the_option_takes(command: Command) -> None:
    command("init", "film")
    assert command("-C", "film", "set", "train.dim=4").out.startswith("train.dim = 4\n")
    assert command("-C", "film", "get", "train.dim").out == "4\n"


def test_doctor_looks_at_the_project(command: Command, frames: Path) -> None:
    command("init", "film", "--film", frames)
    os.chdir("film")

    def looked(*words: object) -> tuple[int, dict[str, str]]:
        answer = command("doctor", "--json", *words)
        states = {one["name"]: one["state"] for one in answer.lines if one["name"].startswith("project: ")}
        return answer.code, states

    assert looked() == (0, {"project: settings": "ok", "project: sources": "ok", "project: weights": "ok"})
    assert looked("--set", "train.base=/none.safetensors")[1]["project: weights"] == "wrong"
    code, states = looked("--set", "train.base=nobody/nothing")
    assert (code, states["project: weights"]) == (3, "missing")
    Path("project.toml").write_text("[ingest]\nfsp = 2\n")
    assert looked() == (2, {"project: settings": "wrong"})


def test_clean_shows_first_and_deletes_what_is_named(command: Command, frames: Path, tmp_path: Path) -> None:
    command("init", "film", "--film", frames, "--set", "ingest.fps=0")
    command("-C", "film", "ingest")
    pictures = list((tmp_path / "film" / "frames").rglob("*.png"))
    shown = command("-C", "film", "clean", "--json").lines
    (stage,) = (one for one in shown if one["name"] == "ingest")
    assert stage["files"] >= len(pictures) > 0
    assert not stage["deleted"]
    assert command("-C", "film", "clean", "ingest").code == 0
    assert all(path.exists() for path in pictures)
    pictures[0].write_bytes(pictures[1].read_bytes() + b"edited")
    answer = command("-C", "film", "clean", "ingest", "--yes")
    assert answer.code == 0
    assert "Freed" in answer.out
    assert [path for path in pictures if path.exists()] == [pictures[0]]


def test_doctor_names_every_backend(command: Command) -> None:
    from bglora.backends import REGISTRY

    answer = command("doctor", "--json")
    assert answer.code == 0
    names = {line["name"] for line in answer.lines}
    assert {f"{role}: {name}" for role, backends in REGISTRY.items() for name in backends} <= names
    assert {"python", "torch", "opencv", "memory", "disk"} <= names
    assert all(line["mend"] for line in answer.lines if line["state"] != "ok")


def test_two_opencvs_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from bglora.backends import doctor

    versions = {"opencv-python": "5.0", "opencv-contrib-python-headless": "5.0"}
    monkeypatch.setattr(doctor, "_version", lambda name: versions.get(name, ""))
    check = doctor._opencv()
    assert check.state == "warning"
    assert "pip uninstall" in check.mend


def test_a_missing_package_is_told_with_its_command() -> None:
    from bglora import backends

    lacking = backends.Backend("bglora.backends.fill.patch", "Fills.", packages=("no_such_package",))
    assert lacking.missing() == ["no_such_package"]
    assert lacking.mend() == "pip install no_such_package"
    with pytest.raises(bglora.UserError, match="There is no fill backend 'crayon'"):
        backends.find("fill", "crayon")


def test_every_registered_backend_is_there_and_says_what_it_is() -> None:
    from bglora import backends
    from bglora.settings import Settings

    settings = Settings()
    for role, names in backends.REGISTRY.items():
        for name, backend in names.items():
            table = getattr(settings, backends.TABLES[role])
            if backend.missing():
                with pytest.raises(bglora.MachineError, match=backend.missing()[0]):
                    backends.identity(role, name, table)
            else:
                assert backends.identity(role, name, table)


def test_python_does_what_the_commands_do(frames: Path, tmp_path: Path) -> None:
    project = bglora.init(tmp_path / "film", films=[frames], created=date(2026, 1, 2))
    seen: list[str] = []
    project = bglora.open(tmp_path / "film" / "sources", listener=lambda event: seen.append(event.kind))
    project.set("ingest.fps", 0)
    assert project.get("ingest.fps") == 0.0
    assert project.plan("ingest").stages[0].todo[0].reasons == ("new",)
    result = project.run(to="ingest")
    assert (result.exit_code, result.stages[0].made) == (0, 8)
    assert seen[0] == "stage-started" and seen[-1] == "stage-finished"
    assert project.plan("ingest").fresh
    assert project.decided("ingest")[0].text.startswith("Kept 8 of 8 frames")
    assert project.clean("ingest", delete=True)[0].files >= 8
    assert "output missing" in project.plan("ingest").stages[0].todo[0].reasons[0]


def test_the_interface_is_what_it_says() -> None:
    assert sorted(bglora.__all__) == [
        "BgloraError", "Interrupted", "MachineError", "Project", "TimeIsUp", "UserError", "__version__", "demo",
        "doctor", "init", "models", "open",
    ]  # fmt: skip
    for name in bglora.__all__:
        assert hasattr(bglora, name)
    for name, method in inspect.getmembers(bglora.Project, inspect.isfunction):
        if not name.startswith("_"):
            assert method.__doc__, name
            assert "return" in method.__annotations__, name


def test_python_m_bglora_is_the_command(tmp_path: Path) -> None:
    answer = process("--version", cwd=tmp_path)
    assert (answer.returncode, answer.stdout) == (0, f"bglora {bglora.__version__}\n")


def test_a_reader_that_goes_away_is_no_error(command: Command, tmp_path: Path) -> None:
    import subprocess
    import sys

    from tests.shell.conftest import ROOT

    command("init", "film")
    producer = subprocess.Popen(
        [sys.executable, "-m", "bglora", "-C", "film", "settings", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert producer.stdout is not None and producer.stderr is not None
    assert json.loads(producer.stdout.readline())
    producer.stdout.close()
    assert "Traceback" not in producer.stderr.read()
    producer.stderr.close()
    assert producer.wait(60) in (0, 1)
