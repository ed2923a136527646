"""`bglora models`, and runs that need weights which are not here: asked, fetched, refused before anything is made."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bglora
from bglora.engine.events import Event
from tests.backends.small_hub import NOWHERE, SmallHub, point_at, small_hub
from tests.shell.conftest import ROOT, Answer

Command = Callable[..., Answer]
MODEL = {"model_index.json": b"{}", "model.safetensors": b"tensors" * 1000}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache of this test's own, and no network."""
    monkeypatch.delenv("LAMA_MODEL", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    point_at(NOWHERE, tmp_path / "hf" / "hub", monkeypatch)
    return tmp_path / "hf" / "hub"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    with small_hub({"tiny/model": MODEL}) as found:
        point_at(found.address, cache, monkeypatch)
        yield found


@pytest.fixture
def schema() -> Any:
    import json

    from jsonschema import Draft202012Validator

    text = (Path(bglora.__file__).parent / "schema" / "events.json").read_text("utf-8")
    return Draft202012Validator(json.loads(text))


def test_the_list_says_what_for_size_license_and_whether_it_is_here(command: Command) -> None:
    answer = command("models")
    assert answer.code == 0
    for word in ("mini", "big-lama", "206 MB", "Apache-2.0", "non-commercial", "settled", "bglora models pull"):
        assert word in answer.out
    lines = {one["name"]: one for one in command("models", "--json").lines}
    assert lines["mini"]["here"] and Path(lines["mini"]["path"]).is_dir()
    assert not lines["sam3"]["here"] and lines["sam3"]["path"] == "" and lines["sam3"]["gated"]


def test_pulled_verified_removed(command: Command, hub: SmallHub, schema: Any) -> None:
    answers = [
        command("models", "pull", "tiny/model", "--dry", "--json"),
        command("models", "pull", "tiny/model", "--json"),
        command("models", "verify", "tiny/model", "--json"),
        command("models", "remove", "tiny/model", "--dry", "--json"),
        command("models", "remove", "tiny/model", "--json"),
        command("models", "verify", "tiny/model", "--json"),
        command("models", "--json"),
    ]
    for answer in answers:
        for line in answer.lines:
            schema.validate(line)
    assert [answer.code for answer in answers] == [0, 0, 0, 0, 0, 3, 0]
    dry, pulled, verified, foreseen, removed, absent, _ = answers
    assert [one["here"] for one in dry.lines] == [False]
    assert {one["event"] for one in pulled.lines} == {"fetching", "model"}
    assert pulled.lines[-1]["here"] and pulled.lines[-2]["done"] == pulled.lines[-2]["total"]
    assert verified.lines[0]["state"] == "ok" and absent.lines[0]["state"] == "absent"
    assert foreseen.lines[0]["bytes"] == removed.lines[0]["bytes"] > 7000
    assert "pull tiny/model" in absent.err


@pytest.mark.parametrize(
    ("words", "code", "what", "cure"),
    [
        (["fetch"], 2, "There is no 'fetch' for models.", "pull|verify|remove"),
        (["pull", "big-lame"], 2, "Nobody knows weights named 'big-lame'.", "big-lama"),
        (["pull", "tiny/model"], 3, "No connection to the hub", "bglora models pull tiny/model"),
        (["remove"], 2, "Say which.", "bglora models"),
        (["remove", "mini"], 2, "mini belongs to the package.", "Leave it there."),
        (["pull"], 2, "There is no bglora project here.", "bglora init"),
    ],
)
def test_a_mistake_is_told_in_three_lines(command: Command, words: list[str], code: int, what: str, cure: str) -> None:
    answer = command("models", *words)
    assert answer.code == code
    assert what in answer.told[0] and cure in answer.told[2]


def test_a_run_without_its_weights_stops_before_anything_is_made(command: Command, frames: Path) -> None:
    command("init", "film", "--film", frames, "--set", "train.base=sdxl-base")
    answer = command("-C", "film", "run", "--all")
    assert answer.code == 3
    assert answer.told[0] == "Not on this machine: sdxl-base (13.9 GB, CreativeML Open RAIL++-M)."
    assert answer.told[1] == "train.base = sdxl-base"
    assert answer.told[2].startswith("bglora models pull sdxl-base; ")
    assert not Path("film/frames").exists()
    assert command("-C", "film", "run", "--to", "ingest").code == 0  # what does not need them goes on
    assert command("-C", "film", "plan").code == 0


def test_a_project_that_lets_runs_fetch_does(command: Command, frames: Path, hub: SmallHub, cache: Path) -> None:
    command("init", "film", "--film", frames, "--set", "train.base=tiny/model", "--set", "project.download=yes")
    answer = command("-C", "film", "run", "--all", "--max-time", "0")
    assert answer.code == 75
    assert list(cache.rglob("model.safetensors"))
    notices: list[str] = []
    project = bglora.open("film", listener=lambda event: notices.append(str(event.to_json().get("text", ""))))
    assert project.missing_weights() == []
    command("models", "remove", "tiny/model")
    assert [one.setting for one in project.missing_weights()] == ["train.base"]
    with pytest.raises(bglora.TimeIsUp):
        project.run(max_time=0)
    assert "fetching tiny/model (terms unknown here)" in notices
    assert command("-C", "film", "models", "pull").out.startswith("Everything that the settings name")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_one_question_is_asked_with_size_and_license(
    command: Command, frames: Path, hub: SmallHub, cache: Path
) -> None:
    import pty

    command("init", "film", "--film", frames, "--set", "train.base=tiny/model")

    def answered(word: str) -> tuple[int, str]:
        parent, child = pty.openpty()
        environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
        words = [sys.executable, "-m", "bglora", "-C", "film", "run", "--all", "--max-time", "0"]
        with subprocess.Popen(words, stdin=child, stdout=child, stderr=child, env=environment) as process:
            os.close(child)
            os.write(parent, f"{word}\n".encode())
            shown = b"".join(iter(lambda: _read(parent), b""))
        os.close(parent)
        return process.returncode, " ".join(shown.decode().split())

    code, shown = answered("n")
    assert code == 3 and "This run needs 1 model that is not on this machine: tiny/model" in shown
    assert "now? [y/N]" in shown and "bglora models pull tiny/model" in shown
    code, shown = answered("y")
    assert code == 75 and list(cache.rglob("model.safetensors"))


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux says so when the other side has gone
        return b""


def test_a_commercial_project_refuses_terms_that_forbid_it(command: Command, frames: Path) -> None:
    command("init", "film", "--film", frames, "--set", "project.commercial=true", "--set", "caption.backend=qwen_vl")
    model = "Qwen/Qwen2.5-VL-3B-Instruct"
    command("-C", "film", "set", "caption.qwen_vl", model)
    answer = command("-C", "film", "run", "--all")
    assert answer.code == 2
    assert "qwen2.5-vl-3b may not be used commercially" in answer.told[0]
    assert "non-commercial use only" in answer.told[0]
    assert answer.told[1] == f"caption.qwen_vl = {model}, with project.commercial = true"
    free = command("-C", "film", "run", "--all", "--set", "project.commercial=false")
    assert free.told[0].startswith("Not on this machine: qwen2.5-vl-3b")


def test_a_commercial_project_is_told_of_models_that_state_no_terms(command: Command, frames: Path) -> None:
    command("init", "film", "--film", frames, "--set", "inpaint.engine=brushnet", "--set", "project.download=no")
    told: dict[bool, list[str]] = {True: [], False: []}

    def tell(event: Event) -> None:
        told[commercial].append(str(event.to_json().get("text", "")))

    for commercial in told:
        project = bglora.open("film", given=[f"project.commercial={str(commercial).lower()}"], listener=tell)
        with pytest.raises(bglora.MachineError):
            project.run()
    (sentence,) = [text for text in told[True] if "commercially" in text]
    assert "brushnet-sd" in sentence and "without a license" in sentence
    assert not [text for text in told[False] if "commercially" in text]


def test_doctor_tells_weights_and_the_command_that_brings_them(command: Command, frames: Path) -> None:
    command("init", "film", "--film", frames, "--set", "train.base=sdxl-base")
    checks = {one["name"]: one for one in command("-C", "film", "doctor", "--json").lines}
    assert checks["train: native"]["state"] == checks["paint: diffusers"]["state"] == "missing"
    assert checks["train: native"]["found"] == "lacks the weights sdxl-base (train.base, 14 GB)"
    assert checks["train: native"]["mend"] == "bglora models pull sdxl-base"
    unused = {
        one["name"]: one for one in command("-C", "film", "doctor", "--json", "--set", "train.backend=kohya").lines
    }
    assert unused["train: native"]["state"] == "unused"
    assert "GB of memory" in unused["train: kohya"]["found"]


def test_doctor_tells_a_missing_package_and_too_little_memory(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from bglora import backends

    patch = "bglora.backends.fill.patch"
    lacking = backends.Backend(patch, "Fills.", packages=("no_such_package",))
    monkeypatch.setitem(backends.known("fill"), "lacking", lacking)
    monkeypatch.setitem(backends.known("fill"), "vast", backends.Backend(patch, "Fills.", memory_gb=1e6, gpu_gb=1e6))
    checks = {one["name"]: one for one in command("doctor", "--json").lines}
    assert checks["fill: lacking"]["state"] == "unused"
    assert checks["fill: lacking"]["found"] == "lacks the package no_such_package"
    assert checks["fill: lacking"]["mend"] == "pip install no_such_package"
    assert checks["fill: vast"]["state"] == "unused" and checks["fill: vast"]["mend"]
    assert "Takes 1e+06 of" in checks["fill: vast"]["found"]
    with pytest.raises(bglora.MachineError) as caught:
        backends.load("fill", "lacking", None)
    error = caught.value
    assert (error.what, error.where, error.cure) == (
        "The fill backend lacking needs packages that are not here: no_such_package.",
        "fill backend lacking",
        "pip install no_such_package",
    )
