"""sd-scripts launched: started, heard, stopped, gone on with, its file taken in, its failures told.

The script is a stand-in that speaks its protocol; everything of ours between the job and that process is real.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import tomlkit

import bglora
from bglora import backends
from bglora.backends.train.sd_scripts import guard, states
from bglora.engine.stage import Stopped
from bglora.errors import MachineError, UserError
from bglora.settings import Settings
from bglora.stages.train import Train
from bglora.training import kohya_config
from bglora.training.job import Paused, Recipe, TrainJob, TrainPicture, TrainResult
from tests.shared import shared
from tests.stages.trained_project import make, project

pytestmark = pytest.mark.skipif(os.name == "nt", reason="its conda is a script with a first line for POSIX")

HERE = Path(__file__).parent
PICTURES, REPEATS = 7, 1
STEPS_PER_EPOCH = 4  # 7 pictures, accumulation 2


@dataclass
class Tools:
    """What the engine hands a backend; asked to stop once `stop_at` steps are shown."""

    root: Path
    scratch: Path
    stop_at: float = float("inf")
    shown: list[tuple[float, float, str]] = field(default_factory=list)

    def progress(self, done: float, total: float, text: str = "") -> None:
        self.shown.append((done, total, text))

    def stopping(self) -> bool:
        return bool(self.shown) and self.shown[-1][1] > 1 and self.shown[-1][0] >= self.stop_at


class Lab:
    """A project with a dataset, a checkout of the stand-in, and a conda that runs it."""

    def __init__(self, root: Path) -> None:
        self.root, self.checkout = root, root / "sd-scripts"
        self.checkout.mkdir(parents=True)
        shutil.copy(HERE / "stand_in_sd_scripts.py", self.checkout / "sdxl_train_network.py")
        shutil.copy(kohya_config.ARGUMENTS, self.checkout / "arguments.json")
        self.conda = root / "conda"
        self.conda.write_text(f"#!{sys.executable}\n" + (HERE / "stand_in_conda.py").read_text("utf-8"), "utf-8")
        self.conda.chmod(0o755)
        home = root / "datasets/scene-00" / f"{REPEATS}_flm"
        home.mkdir(parents=True)
        for number in range(PICTURES):
            (home / f"{number}.png").write_bytes(b"")
        self.base = root / "base.safetensors"
        self.base.write_bytes(b"")
        self.scratch = root / ".bglora/scratch/train/scene-00"

    def job(self, **recipe: Any) -> TrainJob:
        pictures = tuple(TrainPicture(str(number), self.root / "a.png", "flm") for number in range(PICTURES))
        values = {"epochs": 4, "checkpoint_every": 4, "provenance_weights": None, **recipe}
        return TrainJob(
            "scene-00", "Pier", "flm", str(self.base), pictures, (), self.root / "datasets/scene-00", REPEATS,
            False, 1, "", Recipe(**values),
        )  # fmt: skip

    def fault(self, kind: str = "", at: int = -1) -> None:
        """What goes wrong at which step of the run; a run that goes on from a state counts from there."""
        (self.checkout / "fault.json").write_text(json.dumps({"kind": kind, "at": at}))

    def settings(self, **changes: Any) -> Any:
        values = {
            "sd_scripts": "sd-scripts",
            "kohya_python": f"{self.conda} run -n kohya",
            "kohya_template": "sdxl_24gb",
            **changes,
        }
        return Settings().train.model_copy(update=values)

    def train(self, job: TrainJob | None = None, stop_at: float = float("inf"), **settings: Any) -> TrainResult:
        self.tools = Tools(self.root, self.scratch, stop_at)
        backend = backends.load("train", "kohya", self.settings(**settings))
        result: TrainResult = backend.train(job or self.job(), self.tools)
        return result

    def trained_steps(self) -> float:
        raw = (self.scratch / "loras/scene-00.safetensors").read_bytes()
        return float(struct.unpack("<f", raw[-4:])[0])

    def launched(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "launched.json").read_text())
        return found

    @property
    def log(self) -> str:
        return (self.root / ".bglora/logs/train-scene-00-kohya.txt").read_text("utf-8")

    @property
    def alive(self) -> list[psutil.Process]:
        return guard.marked(f"{self.root.resolve()}::scene-00")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    one = Lab(tmp_path)
    yield one
    guard.end(lambda: one.alive, gentle=0.0, firm=0.0)


def test_the_stand_in_goes_on_from_a_state_as_sd_scripts_was_recorded_to(lab: Lab) -> None:
    """Its bar restarts and its states count from there: what the driver has to see through."""
    recorded = json.loads(shared("oracles", "kohya", "dev", "resume_cases.json").read_text("utf-8"))
    out = lab.root / "out"
    config = {"train_data_dir": str(lab.root / "datasets/scene-00"), "output_dir": str(out), "output_name": "tiny_lora"}
    config |= {"max_train_epochs": 4, "gradient_accumulation_steps": 2, "save_every_n_epochs": 1, "save_state": True}
    for case, resume in (("full run", {}), ("resume = state, nothing else", {"resume": str(lab.root / "kept")})):
        (lab.root / "run.toml").write_text(tomlkit.dumps({**config, **resume}), "utf-8")
        script = [sys.executable, str(lab.checkout / "sdxl_train_network.py"), "--config_file", str(lab.root / "run")]
        done = subprocess.run(script, capture_output=True, text=True, check=True, encoding="utf-8")
        assert re.findall(r"^epoch (\d+/\d+)$", done.stdout, re.M) == recorded[case]["epoch lines"]
        bars = re.findall(r"steps: .*?\| (\d+/\d+) \[", done.stderr)
        assert [bars[0], bars[-1]] == [recorded[case]["progress bar first"], recorded[case]["progress bar last"]]
        assert sorted(path.name for path in out.iterdir()) == recorded[case]["files"]
        told = {path.parent.name: json.loads(path.read_text()) for path in out.glob("*/train_state.json")}
        assert told == recorded[case]["train_state.json"]
        if not resume:
            shutil.copytree(out / "tiny_lora-000002-state", lab.root / "kept")
            shutil.rmtree(out)


def test_a_training_ends_with_a_lora_its_curve_and_its_record(lab: Lab) -> None:
    result = lab.train()
    assert result.undone == "" and result.outputs[0] == "loras/scene-00.safetensors"
    assert all((lab.scratch / path).is_file() for path in result.outputs)
    assert lab.trained_steps() == 16
    record = result.record
    assert (record["steps"], record["pictures_seen"], record["loss"]) == (16, 28, 1.34)
    assert [point[0] for point in record["curve"]] == list(range(1, 17))
    assert record["curve"][0][3] == pytest.approx(1e-4) and 0 < record["curve"][-1][3] < 2e-6
    assert record["trained_by"].endswith(
        f"Python {platform.python_version()}, torch 2.6.0+cu124, accelerate 1.6.0, 2 graphics cards"
    )
    assert record["options"]["network_dim"] == record["dim"]
    assert not any(str(lab.root) in str(value) for value in record["options"].values())
    done, total, text = lab.tools.shown[-1]
    assert (done, total) == (16, 16) and text == "step 16 of 16, loss 1.34, 1.48 s each"
    assert lab.tools.shown[0] == (0, 1, "looking at sd-scripts")
    assert "学習開始" in lab.log and "steps: 100%" in lab.log


def test_the_launcher_is_told_everything_and_inherits_nothing_of_ours(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = lab.train(lab.job(threads=3, warmup_steps=3), processes=2)
    launched = lab.launched()
    options = launched["options"]
    assert options.pop("--config_file").endswith("accelerate.yaml")
    assert options == {
        "--multi_gpu": "", "--main_process_port": "0", "--num_processes": "2", "--num_machines": "1",
        "--mixed_precision": "bf16", "--dynamo_backend": "no", "--num_cpu_threads_per_process": "3",
    }  # fmt: skip
    assert launched["script"][0] == str(lab.checkout / "sdxl_train_network.py")
    assert {"PYTHONPATH", "WORLD_SIZE"} & set(launched["variables"]) == set()
    assert launched["variables"]["PYTHONUNBUFFERED"] == "1"
    config = kohya_config.flattened(tomllib.loads(Path(launched["script"][2]).read_text("utf-8")))[0]
    assert config["save_state"] is True and config["save_last_n_epochs_state"] == 1
    assert config["pretrained_model_name_or_path"] == str(lab.base)
    assert config["lr_warmup_steps"] == 6 and config["ddp_timeout"] == 180
    assert [point[3] for point in result.record["curve"][:4]] == pytest.approx([0, 1e-4 / 3, 2e-4 / 3, 1e-4])
    published = (lab.scratch / "loras/scene-00.kohya.toml").read_text("utf-8")
    assert str(lab.scratch) not in published and "resume" not in published


def test_stopped_twice_it_goes_on_from_whole_epochs_and_trains_every_step_once(lab: Lab) -> None:
    lab.fault("hold", at=6)
    with pytest.raises(Paused, match="the end of epoch 1"):
        lab.train(stop_at=6)
    assert lab.alive == []
    with pytest.raises(Paused, match="the end of epoch 2"):
        lab.train(stop_at=10)
    lab.fault()
    result = lab.train()
    assert lab.trained_steps() == 16
    assert result.record["runs"] == 3
    assert [point[0] for point in result.record["curve"]] == list(range(1, 17))
    assert [point[1] for point in result.record["curve"]] == pytest.approx([1.5 - 0.01 * n for n in range(1, 17)])
    assert lab.log.count("running training") == 3
    assert (8, 16) not in {shown[:2] for shown in lab.tools.shown}, "the bar of the last run starts after epoch 2"


def test_steps_that_are_no_whole_epochs_end_at_the_same_step_after_going_on(lab: Lab) -> None:
    job = lab.job(max_steps=10)
    lab.fault("hold", at=6)
    with pytest.raises(Paused):
        lab.train(job, stop_at=6)
    lab.fault()
    result = lab.train(job)
    assert lab.trained_steps() == 10
    assert result.record["steps"] == 10 and result.record["curve"][-1][0] == 10


def test_killed_while_it_saves_it_goes_on_from_the_state_before(lab: Lab) -> None:
    lab.fault("half_state", at=2)
    with pytest.raises(MachineError, match=r"SIGKILL.* at step 8 of 16"):
        lab.train()
    out = lab.scratch / "state/scene-00/out"
    assert not states.whole(out / "scene-00-000002-state") and states.whole(out / "scene-00-000001-state")
    lab.fault()
    lab.train()
    assert lab.trained_steps() == 16


def test_a_state_with_a_part_cut_or_missing_is_not_whole(lab: Lab) -> None:
    lab.train(lab.job(epochs=2))
    state = lab.scratch / "state/scene-00/out/scene-00-000001-state"
    assert states.whole(state)
    for cut in ("optimizer.bin", "random_states_0.pkl", "model.safetensors", "train_state.json"):
        part = state / cut
        content = part.read_bytes()
        part.write_bytes(content[:-3])
        assert not states.whole(state), cut
        part.unlink()
        assert not states.whole(state) and states.newest(state.parent, "scene-00") is None, cut
        part.write_bytes(content)
    assert states.newest(state.parent, "scene-00") == states.State(state, 1)


def test_a_file_finished_just_before_a_kill_is_taken_in_without_training(lab: Lab) -> None:
    lab.train()
    lab.fault("oom", at=0)
    lab.train()
    assert lab.trained_steps() == 16 and "OutOfMemory" not in lab.log


FAILURES: dict[str, tuple[type[Exception], str, str]] = {
    "oom": (MachineError, "graphics card's memory was too small.* at step 2 of 16", "kohya_template sdxl_16gb_stable"),
    "nan": (UserError, "not a number at step 2 of 16", "smaller train.learning_rate (now 0.0001)"),
    "kill": (MachineError, "was killed.* at step 2 of 16", "max_data_loader_n_workers"),
    "disk": (MachineError, "disk was full .* at step 2", "bglora clean"),
    "value": (UserError, "unknown optimizer_type: Adamm", "Its log says more"),
    "module": (MachineError, "lacks the package voluptuous_which_is_not_here", "requirements.txt"),
    "no_file": (UserError, "without an error at step 16 of 16, and wrote no LoRA", "output_name"),
    "cut": (UserError, "is cut", "bglora retry"),
    "zero": (UserError, "untrained", "bglora retry"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_is_told_in_three_lines_with_its_cure(lab: Lab, kind: str) -> None:
    error, what, cure = FAILURES[kind]
    lab.fault(kind, at=2)
    with pytest.raises(error, match=what) as told:
        lab.train()
    assert cure in told.value.cure  # type: ignore[attr-defined]
    assert len(str(told.value).splitlines()) == 3
    assert lab.alive == []


def test_a_refused_value_before_the_first_step_names_its_key(lab: Lab) -> None:
    lab.fault("value", at=0)
    with pytest.raises(UserError, match="refused to start: ValueError") as told:
        lab.train()
    assert "optimizer_type" in told.value.cure


def test_no_pictures_is_a_failure_though_it_exits_with_0(lab: Lab) -> None:
    shutil.rmtree(lab.root / "datasets/scene-00")
    with pytest.raises(UserError, match="found no pictures"):
        lab.train()


def test_an_error_after_the_file_was_written_is_remarked_and_the_file_is_kept(lab: Lab) -> None:
    lab.fault("late")
    assert "RuntimeError: NCCL communicator was aborted" in lab.train().record["notices"][-1]
    assert lab.trained_steps() == 16


def test_a_key_that_this_checkout_lacks_is_told_before_the_start(lab: Lab) -> None:
    table = json.loads((lab.checkout / "arguments.json").read_text())
    del table["min_snr_gamma"]
    (lab.checkout / "arguments.json").write_text(json.dumps(table))
    (lab.root / "templates/kohya").mkdir(parents=True)
    packaged = (HERE.parents[1] / "templates/kohya/sdxl_24gb.toml").read_text("utf-8")
    (lab.root / "templates/kohya/own.toml").write_text(packaged + "\n[own]\nmin_snr_gamma = 5.0\n", "utf-8")
    with pytest.raises(MachineError, match="doesn't know min_snr_gamma"):
        lab.train(kohya_template="own")
    assert not (lab.root / "launched.json").exists()


def test_a_key_that_only_a_newer_checkout_knows_is_taken_with_a_notice(lab: Lab) -> None:
    table = json.loads((lab.checkout / "arguments.json").read_text())
    (lab.checkout / "arguments.json").write_text(json.dumps({**table, "brand_new": ["int"]}))
    (lab.root / "templates/kohya").mkdir(parents=True)
    packaged = (HERE.parents[1] / "templates/kohya/sdxl_24gb.toml").read_text("utf-8")
    (lab.root / "templates/kohya/own.toml").write_text(packaged + "\n[own]\nbrand_new = 5\n", "utf-8")
    assert any("brand_new" in notice for notice in lab.train(kohya_template="own").record["notices"])
    with pytest.raises(UserError, match="brand_new: is no option"):
        lab.train(kohya_template="own", sd_scripts="")


def test_a_crash_after_a_whole_epoch_keeps_its_state_for_the_next_run(lab: Lab) -> None:
    lab.fault("value", at=6)
    with pytest.raises(MachineError, match=r"exit code 1 at step 6 of 16: ValueError: unknown optimizer") as told:
        lab.train()
    assert "goes on from the end of epoch 1" in told.value.cure


def test_what_is_not_there_is_told_before_the_start(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        lab.train(sd_scripts="elsewhere")
    with pytest.raises(UserError, match="There is no sdxl_train_network.py in it"):
        lab.train(sd_scripts=str(tmp_path))
    with pytest.raises(UserError, match="There is no program condo"):
        lab.train(kohya_python="condo run -n kohya")
    with pytest.raises(UserError, match="is no environment"):
        lab.train(kohya_python=str(tmp_path))
    with pytest.raises(UserError, match="There are not 3 graphics cards"):
        lab.train(processes=3)
    (lab.root / "cards").write_text("0")
    with pytest.raises(MachineError, match="sees no graphics card"):
        lab.train()
    poor = tmp_path / "poor"
    poor.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'accelerate'\" >&2; exit 1\n")
    poor.chmod(0o755)
    with pytest.raises(MachineError, match="lacks the package accelerate"):
        lab.train(kohya_python=str(poor))


def test_the_stage_stops_goes_on_and_writes_the_card(lab: Lab, tmp_path: Path) -> None:
    kohya = {"backend": "kohya", "sd_scripts": str(lab.checkout), "kohya_python": f"{lab.conda} run -n kohya"}
    recipe = {"base": str(lab.base), "kohya_template": "sdxl_24gb", "checkpoint_every": 6, "epochs_small": 3}
    view = project(tmp_path / "film", train={**kohya, **recipe})
    (item,) = Train().items(view)
    shown: list[bool] = []

    def stop() -> bool:
        shown.append(True)
        return len(shown) > 8

    lab.fault("hold", at=3)
    with pytest.raises(Stopped):
        make(Train(), item, view, tmp_path / "scratch", stop=stop)
    lab.fault()
    (outcome,) = make(Train(), item, view, tmp_path / "scratch")
    assert outcome.status == "made" and outcome.outputs[0] == "loras/scene-00.safetensors"
    card = json.loads((tmp_path / "scratch/loras/scene-00.json").read_text("utf-8"))
    assert (card["steps"], card["trigger"]) == (18, "filmtown")
    assert card["settings"]["network_dim"] == 4 and card["settings"]["optimizer_type"] == "AdamW"
    assert str(tmp_path) not in json.dumps(card) + json.dumps(outcome.record)
    moved = project(tmp_path / "film", train={**kohya, **recipe, "sd_scripts": "/elsewhere", "kohya_python": ""})
    assert [one.backend for one in Train().items(moved)] == [item.backend]
    unset = project(tmp_path / "film", train={**kohya, **recipe, "sd_scripts": ""})
    assert [one.backend for one in Train().items(unset)] != [item.backend]


def test_doctor_starts_it_where_it_is_chosen(lab: Lab) -> None:
    manifest = f'''[project]
name = "x"
[train]
backend = "kohya"
sd_scripts = "sd-scripts"
kohya_python = "{lab.conda} run -n kohya"
'''
    (lab.root / "project.toml").write_text(manifest, "utf-8")
    found = {one.name: one for one in bglora.doctor(lab.root)}["project: sd-scripts"]
    assert found.state == "ok" and found.found.endswith("torch 2.6.0+cu124, accelerate 1.6.0, 2 graphics cards")
    named = {one.name: one for one in bglora.doctor(lab.root, given=["train.sd_scripts="])}["project: sd-scripts"]
    assert named.state == "warning" and named.mend == "bglora set train.sd_scripts FOLDER"


def test_a_killed_driver_leaves_no_training_behind(lab: Lab) -> None:
    lab.fault("hold", at=2)
    code = f"""
    import sys
    sys.path.insert(0, {str(HERE.parents[1])!r})
    from pathlib import Path
    from tests.backends.test_sd_scripts import Lab
    lab = object.__new__(Lab)
    lab.root, lab.base = Path({str(lab.root)!r}), Path({str(lab.base)!r})
    lab.conda, lab.scratch = Path({str(lab.conda)!r}), Path({str(lab.scratch)!r})
    lab.train()
    """
    driver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    _until(lambda: any("sdxl_train_network.py" in " ".join(one.cmdline()) for one in lab.alive), driver)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    _until(lambda: not lab.alive)


def test_what_a_killed_guard_left_is_ended_before_the_next_start(lab: Lab) -> None:
    mark = f"{lab.root.resolve()}::scene-00"
    code = "import time; time.sleep(60)"
    stray = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, guard.MARK: mark})
    other = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, guard.MARK: mark + "1"})
    try:
        assert any("left behind" in notice for notice in lab.train().record["notices"])
        assert stray.poll() is not None and other.poll() is None
    finally:
        stray.kill()
        other.kill()
        other.wait()


def test_a_deaf_training_is_ended_all_the_same() -> None:
    code = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)]; print(flush=True); time.sleep(60)"
    deaf = psutil.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    deaf.stdout.readline()
    guard.end(lambda: [deaf] if deaf.is_running() else [], gentle=0.1, firm=0.1)
    assert not deaf.is_running()
    deaf.stdout.close()


def test_accelerates_own_launcher_starts_the_script(lab: Lab) -> None:
    """The real launcher and the real probe, in this Python; its torch may see no card, so it is forced."""
    result = lab.train(replace(lab.job(epochs=1), force=True), kohya_python=sys.executable)
    assert result.record["steps"] == 4 and lab.trained_steps() == 4


def _until(true: Callable[[], bool], driver: subprocess.Popen[bytes] | None = None, patience: float = 20.0) -> None:
    end = time.monotonic() + patience
    while not true():
        assert driver is None or driver.poll() is None, "the driver ended by itself"
        assert time.monotonic() < end
        time.sleep(0.05)
