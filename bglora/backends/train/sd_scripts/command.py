"""The words that start sd-scripts: its Python, accelerate's launcher, the environment. No shell reads any of them."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bglora.errors import UserError

SCRIPT = "sdxl_train_network.py"
SETTING, PYTHON_SETTING = "train.sd_scripts", "train.kohya_python"
ENVIRONMENTS = ("venv", ".venv")
INSIDE = ("bin/python", "bin/python3", "Scripts/python.exe", "python.exe")
"""Where the Python of an environment's folder lies; the last one is conda's on Windows."""
BUFFERED = ("conda", "mamba")
"""Their `run` keeps all output to the end unless told not to."""
OURS = (
    *("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "OMP_NUM_THREADS"),
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
)
"""Variables that belong to this program's Python, or to an `accelerate launch` that it runs under."""


@dataclass(frozen=True)
class Launch:
    """How accelerate starts the script.

    Attributes:
        processes: one per graphics card.
        precision: mixed precision, as in the configuration; the launcher's must not contradict it.
        threads: CPU threads of each process.
    """

    processes: int
    precision: str
    threads: int


def folder_of(text: str, root: Path) -> Path:
    """The checkout that `train.sd_scripts` names.

    Raises:
        UserError: no folder, or none with the script.
    """
    folder = _located(text, root)
    if (folder / SCRIPT).is_file():
        return folder
    what = f"There is no {SCRIPT} in it" if folder.is_dir() else "There is no such folder"
    raise UserError(
        f"{what}, so sd-scripts can't be started.",
        where=f"{SETTING} = {folder}",
        cure=f"bglora set {SETTING} FOLDER, the one that holds {SCRIPT}; or get it: "
        "git clone https://github.com/kohya-ss/sd-scripts",
    )


def python_words(text: str, folder: Path, root: Path) -> list[str]:
    """The words before a script's name: `["/x/venv/bin/python"]`, `["conda", "run", ..., "python"]`.

    Args:
        text: `train.kohya_python`.
        folder: the checkout, whose own environment is taken where nothing is said.
        root: the project, which relative paths start from.

    Raises:
        UserError: nothing that could be started.
    """
    if not text.strip():
        own = (_inside(folder / name) for name in ENVIRONMENTS)
        return [next((str(path) for path in own if path), sys.executable)]
    path = _located(text, root)
    if path.is_dir():
        found = _inside(path)
        if found is None:
            raise _no_python(text, f"{path} is no environment: it has none of {', '.join(INSIDE)}.")
        return [str(found)]
    if path.is_file():
        return [str(path)]
    words = _split(text)
    program = shutil.which(words[0]) or shutil.which(str(_located(words[0], root)))
    if program is None:
        raise _no_python(text, f"There is no program {words[0]}.")
    if len(words) > 1 and words[1] == "run" and Path(words[0]).stem in BUFFERED:
        words.insert(2, "--no-capture-output")
    if len(words) > 1 and not Path(words[-1]).stem.startswith("python"):
        words.append("python")
    return [program, *words[1:]]


def launch_words(python: list[str], script: Path, config: Path, accelerate: Path, launch: Launch) -> list[str]:
    """`python -m accelerate.commands.launch ... sdxl_train_network.py --config_file ...`."""
    several = ["--multi_gpu", "--main_process_port", "0"] if launch.processes > 1 else []
    options = {
        "--config_file": accelerate,
        "--num_processes": launch.processes,
        "--num_machines": 1,
        "--mixed_precision": launch.precision,
        "--dynamo_backend": "no",
        "--num_cpu_threads_per_process": launch.threads,
    }
    told = [word for name, value in options.items() for word in (name, str(value))]
    return [*python, "-m", "accelerate.commands.launch", *several, *told, str(script), "--config_file", str(config)]


def accelerate_config(launch: Launch) -> str:
    """A neutral file for accelerate: without one it reads the user's, which may be made for something else."""
    kind = "MULTI_GPU" if launch.processes > 1 else "NO"
    return f"compute_environment: LOCAL_MACHINE\ndistributed_type: '{kind}'\nnum_processes: {launch.processes}\n"


def environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables that it runs with: this program's own taken out, output at once and in UTF-8."""
    kept = dict(os.environ if given is None else given)
    for name in list(kept):
        if name in OURS or name.startswith(("ACCELERATE_", "TORCHELASTIC_", "BGLORA_")):
            del kept[name]
    # A pipe's encoding on Windows knows no Japanese, which sd-scripts prints; COLUMNS: where its log breaks lines.
    return kept | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8:replace", "COLUMNS": "120"}


def _located(text: str, root: Path) -> Path:
    path = Path(text.strip()).expanduser()
    return path if path.is_absolute() else root / path


def _inside(environment: Path) -> Path | None:
    return next((environment / name for name in INSIDE if (environment / name).is_file()), None)


def _split(text: str) -> list[str]:
    """Words as a shell would read them, without one; Windows' paths keep their backslashes."""
    try:
        words = shlex.split(text, posix=os.name != "nt")
    except ValueError as error:
        raise _no_python(text, f"It can't be read as words: {error}.") from error
    return [word.strip("\"'") for word in words] if os.name == "nt" else words


def _no_python(text: str, what: str) -> UserError:
    return UserError(
        f"The Python for sd-scripts isn't there. {what}",
        where=f"{PYTHON_SETTING} = {text}",
        cure=f'bglora set {PYTHON_SETTING} PATH/venv; or words: bglora set {PYTHON_SETTING} "conda run -n NAME"',
    )
