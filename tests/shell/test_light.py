"""The command line answers at once: `--help` and completion import nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell.conftest import ROOT, process

HEAVY = {
    "numpy", "scipy", "cv2", "av", "PIL", "torch", "diffusers", "transformers", "pydantic", "pydantic_settings",
    "tomlkit", "sqlite3", "filelock", "psutil", "asyncio", "multiprocessing",
}  # fmt: skip


TYPERS_OWN = {"pydantic", "asyncio"}
"""Newer versions of typer import pydantic by themselves to read a command's options."""


@pytest.mark.parametrize(
    ("words", "heavy"), [(["--help"], HEAVY), (["--version"], HEAVY), (["run", "--help"], HEAVY - TYPERS_OWN)]
)
def test_help_imports_nothing_heavy(words: list[str], heavy: set[str]) -> None:
    code = "import sys; from bglora.cli import run; run(sys.argv[1:]); sys.stderr.write(' '.join(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    loaded = {name.partition(".")[0] for name in answer.stderr.split()}
    assert loaded & heavy == set()
    assert answer.stdout


def test_the_python_interface_imports_nothing_heavy() -> None:
    code = "import sys, bglora; sys.stdout.write(' '.join(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert {name.partition(".")[0] for name in answer.stdout.split()} & (HEAVY | {"typer", "rich"}) == set()


def test_help_names_every_exit_code_and_command(tmp_path: Path) -> None:
    text = process("--help", cwd=tmp_path, COLUMNS="80").stdout
    for code in ("0 ", "1 ", "2 ", "3 ", "75 ", "130 "):
        assert code in text[text.index("Exit codes") :]
    from bglora.cli.app import GROUPS

    for commands in GROUPS.values():
        for name, _ in commands:
            assert f" {name} " in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert process("-h", cwd=tmp_path, COLUMNS="80").stdout == text


@pytest.mark.parametrize(
    ("shell", "variables", "expected"),
    [
        ("bash", {"COMP_WORDS": "bglora st", "COMP_CWORD": "1"}, "status"),
        ("bash", {"COMP_WORDS": "bglora run --to in", "COMP_CWORD": "3"}, "inpaint"),
        ("bash", {"COMP_WORDS": "bglora set ingest.f", "COMP_CWORD": "2"}, "ingest.fps"),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "bglora st"}, "status"),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "bglora run --overw"}, "--overwrite-edits"),
    ],
)
def test_the_shell_completes(tmp_path: Path, shell: str, variables: dict[str, str], expected: str) -> None:
    answer = process(cwd=tmp_path, _BGLORA_COMPLETE=f"complete_{shell}", **variables)
    assert expected in answer.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_completion_script_is_printed(tmp_path: Path, shell: str) -> None:
    answer = process("--show-completion", shell, cwd=tmp_path, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_BGLORA_COMPLETE=complete_" + shell in answer.stdout
    assert answer.returncode == 0
