"""What starts sd-scripts and what it says: words, console and errors, without starting anything."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest

from bglora import backends
from bglora.backends.train.sd_scripts import command, failures, readiness, states
from bglora.backends.train.sd_scripts.console import Console, Step
from bglora.errors import BgloraError, MachineError, UserError
from bglora.settings.lora import TrainSettings
from tests.backends.stand_in_sd_scripts import save_state
from tests.shared import shared

ORACLE = ("oracles", "kohya", "dev")


def hear(text: bytes, seed: int = 0, pieces: tuple[int, ...] = (1, 3, 50, 400)) -> tuple[Console, list[Step]]:
    """The console after all of the text, cut into pieces of any length."""
    console, steps, rng = Console(), [], random.Random(seed)
    while text:
        size = rng.choice(pieces)
        steps += console.feed(text[:size])
        text = text[size:]
    return console, steps + console.feed(b"", final=True)


@pytest.mark.parametrize("seed", range(3))
def test_the_recorded_console_is_understood_however_it_is_cut(seed: int) -> None:
    text = b"".join(shared(*ORACLE, name).read_bytes() for name in ("console_stdout.txt", "console_stderr.txt"))
    console, steps = hear(text, seed)
    assert console.numbers == {"images": 7, "batches": 7, "epochs": 2, "accumulation": 2, "total": 8}
    assert console.updates_per_epoch == 4 and console.epoch == 2
    last = {step.step: step.loss for step in steps}
    assert last == {0: 1.28, 1: 1.31, 2: 1.31, 3: 1.31, 4: 1.31, 5: 1.32, 6: 1.32, 7: 1.32, 8: 1.33}
    assert {step.total for step in steps} == {8} and steps[-1].seconds == 1.65
    assert console.doing.startswith("preparing") and console.tail[-1].split()[1:3] == ["model", "saved."]


def test_bars_of_other_kinds_are_read_and_half_ones_are_not() -> None:
    norms = b"\rsteps:  10%|x | 1/10 [00:01<00:10, 2.50it/s, Keys Scaled=3, Average key norm=0.1, avr_loss=nan]"
    _, (step, *_) = hear(norms, pieces=(500,))
    assert (step.step, step.seconds, str(step.loss)) == (1, 0.4, "nan")
    assert Console().feed(b"\rsteps:  10%|x | 1/10 [00:01<00:10, 2.50it/s, avr_loss=1.") == []
    console, _ = hear("\r 25%|██▌       | 1/4 [00:00<00:02,  1.35it/s]".encode())
    assert console.doing == "preparing, 1 of 4"


def test_the_python_is_a_file_a_folder_or_words(tmp_path: Path) -> None:
    python = tmp_path / "my venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("")
    checkout = tmp_path / "checkout"
    conda = tmp_path / "conda"
    conda.write_text("")
    conda.chmod(0o755)

    def words(text: str) -> list[str]:
        return command.python_words(text, checkout, tmp_path)

    assert words("my venv") == words(str(python)) == words("my venv/bin/python") == [str(python)]
    assert words("") == [sys.executable]
    assert words(f"{conda} run -n 'my env'") == [str(conda), "run", "--no-capture-output", "-n", "my env", "python"]
    assert words(f"{conda} run -p /x python3.10")[-1] == "python3.10"
    own = checkout / ".venv/Scripts/python.exe"
    own.parent.mkdir(parents=True)
    own.write_text("")
    assert words("") == [str(own)]
    for wrong in ("no-such-program run", "'unclosed"):
        with pytest.raises(UserError, match="isn't there"):
            words(wrong)


def test_a_checkout_tells_its_version_or_its_commit(tmp_path: Path) -> None:
    assert readiness.version_of(tmp_path) == ""
    git = tmp_path / ".git"
    git.mkdir()
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text("# pack-refs\n1111111111111111 refs/heads/dev\n0123456789abcdef refs/heads/main\n")
    assert readiness.version_of(tmp_path) == "commit 0123456789ab"
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.10.1"\n')
    assert readiness.version_of(tmp_path) == "0.10.1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sd_scripts": "elsewhere"}, "no such folder"),
        ({"kohya_python": "condo run"}, "no program condo"),
        ({"kohya_template": "mine"}, "no template 'mine'"),
        ({"base": "mini"}, "can't train on mini"),
    ],
)
def test_settings_that_every_scene_would_fail_by_are_refused_before_the_first(
    changes: dict[str, str], message: str, tmp_path: Path
) -> None:
    (tmp_path / command.SCRIPT).write_text("")
    right = {"backend": "kohya", "sd_scripts": str(tmp_path), "base": "sdxl-base"}
    backends.check("train", "kohya", TrainSettings(**right), tmp_path)
    with pytest.raises(UserError, match=message):
        backends.check("train", "kohya", TrainSettings(**{**right, **changes}), tmp_path)


LAUNCHER = "subprocess.CalledProcessError: Command '['python', 'x.py']' "
CASES: list[tuple[int, str, type[BgloraError], str, str]] = [
    (1, f"{LAUNCHER}died with <Signals.SIGKILL: 9>.", MachineError, "was killed", "Close other programs"),
    (1, "  exitcode  : -9 (pid: 22)\n  traceback : Signal 9 (SIGKILL) received by PID 22", MachineError, "killed", ""),
    (137, "", MachineError, "killed", ""),
    (143, "", UserError, "ended by SIGTERM", "bglora retry"),
    (1, "torch.cuda.OutOfMemoryError: CUDA out of memory.", MachineError, "card's memory", "sdxl_12gb"),
    (1, "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory", MachineError, "memory", ""),
    (1, "safetensors_rust.SafetensorError: I/O error: No space left on device (os error 28)", MachineError, "disk", ""),
    (1, "ModuleNotFoundError: No module named 'bitsandbytes'", MachineError, "package bitsandbytes", "adamw"),
    (1, "OSError: Can't load tokenizer for 'openai/clip-vit-large-patch14'.", MachineError, "tokenizers", "connection"),
    (2, "x.py: error: unrecognized arguments: --foo", UserError, "doesn't know --foo", "git pull"),
    (1, "ValueError: Unknown mixed_precision mode: bf17", UserError, "refused to start", "Mend mixed_precision"),
    (1, f"RuntimeError: odd\n{LAUNCHER}returned non-zero exit status 1.", UserError, "1: RuntimeError: odd", "log"),
]


@pytest.mark.parametrize(("code", "said", "error", "what", "cure"), CASES)
def test_last_words_become_a_cause_and_a_cure(
    code: int, said: str, error: type[BgloraError], what: str, cure: str
) -> None:
    options = {"mixed_precision": "bf17", "network_dim": 128}
    told = failures.explain(failures.Ended(code, said.split("\n"), "log.txt", options, "sdxl_16gb_stable"))
    assert type(told) is error and what in told.what and cure in told.cure and "\n" not in told.what


def test_a_full_card_names_what_still_can_be_saved_the_cheapest_first() -> None:
    said = ["torch.OutOfMemoryError: CUDA out of memory."]
    rich = {"network_dim": 128, "train_batch_size": 2}
    cure = failures.explain(failures.Ended(1, said, "", rich, "sdxl_80gb")).cure
    order = ["gradient_checkpointing true", "batch_size 1", "kohya_template sdxl_24gb", "dim 32"]
    assert [cure.index(one) for one in order] == sorted(cure.index(one) for one in order)
    poor = {"network_dim": 32, "train_batch_size": 1, "gradient_checkpointing": True}
    assert "train.resolution 768" in failures.explain(failures.Ended(1, said, "", poor, "sdxl_12gb")).cure


def test_of_recorded_states_the_last_epoch_is_taken_whatever_step_it_tells(tmp_path: Path) -> None:
    """After going on, sd-scripts' states tell the steps of their run: 4 where the whole training has done 12."""
    recorded = json.loads(shared(*ORACLE, "resume_cases.json").read_text("utf-8"))
    full, resumed = (recorded[name]["train_state.json"] for name in ("full run", "resume = state, nothing else"))
    assert resumed["tiny_lora-000003-state"] != full["tiny_lora-000003-state"]
    for name, state in {**full, **resumed}.items():
        save_state(tmp_path / name, state["current_epoch"], state["current_step"], 1.0, 0)
    save_state(tmp_path / "tiny_lora-step00000500-state", 9, 500, 1.0, 0)
    found = states.newest(tmp_path, "tiny_lora")
    assert found == states.State(tmp_path / "tiny_lora-000003-state", 3)
    states.clear(tmp_path, found)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny_lora-000003-state"]
