"""Why sd-scripts ended: its last words and its exit code as three lines with a cure."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bglora.errors import BgloraError, MachineError, UserError

CARD_FULL = re.compile(
    r"(?:CUDA|HIP|MPS backend|XPU) out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
)
MEMORY_FULL = re.compile(r"DefaultCPUAllocator: can't allocate|^MemoryError|Cannot allocate memory|bad_alloc")
DISK_FULL = re.compile(
    r"No space left on device|\[Errno 28\]|WinError 112|Disk quota exceeded|PytorchStreamWriter failed writing"
)
MODULE = re.compile(r"(?:ModuleNotFoundError|ImportError): (.*)")
MISSING = re.compile(r"No module named '([\w.]+)'")
REFUSED = re.compile(
    r"unrecognized arguments: (?P<unknown>.+)|argument (?P<argument>--\S+): (?P<choice>invalid .+)"
    r"|(?P<value>(?:ValueError|AttributeError|TypeError|KeyError|AssertionError)\b.*)"
)
OFFLINE = re.compile(
    r"Max retries exceeded|couldn't connect to '?https?://|LocalEntryNotFoundError|offline mode|NameResolutionError"
    r"|Can't load tokenizer for"
)
SIGNALS = (
    re.compile(r"died with <Signals\.(SIG\w+)"),
    re.compile(r"Signal \d+ \((SIG\w+)\)"),
)
SAID = re.compile(r"^(?:\[rank\d+\]: ?)?((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit)\b(?:: .*)?)$")
LAUNCHERS = ("CalledProcessError", "ChildFailedError")
"""How accelerate's launcher says that the script failed; the cause stands before it."""
OTHER_MODULES = {
    "xformers": "pip install xformers, or set xformers = false and sdpa = true in your template",
    "bitsandbytes": "pip install bitsandbytes, or: bglora set train.optimizer adamw, with your own template's "
    'optimizer_type = "AdamW"',
    "lycoris": "pip install lycoris-lora",
}
TEMPLATES = ("sdxl_12gb", "sdxl_16gb_stable", "sdxl_24gb", "sdxl_80gb")


@dataclass(frozen=True)
class Ended:
    """How it ended.

    Attributes:
        code: exit code. tail: last lines of its output.
        where: its log. options: of its configuration. template: name of that.
        step: optimizer steps done, in words; empty before the first.
        from_epoch: the epoch whose whole state the next run goes on from; 0 if there is none.
    """

    code: int
    tail: Sequence[str]
    where: str
    options: Mapping[str, Any]
    template: str
    step: str = ""
    from_epoch: int = 0


def explain(ended: Ended) -> BgloraError:
    """The error to raise. Those of the machine end the whole run, and their states stay for the next one."""
    text = "\n".join(line.strip() for line in ended.tail)
    at = f" at {ended.step}" if ended.step else ""
    module = MODULE.search(text)
    if CARD_FULL.search(text):
        return MachineError(
            f"The graphics card's memory was too small for sd-scripts{at}.",
            where=ended.where,
            cure=_smaller(ended.options, ended.template),
        )
    if DISK_FULL.search(text):
        return MachineError(
            f"The disk was full while sd-scripts wrote{at}.",
            where=ended.where,
            cure="Make room (`bglora clean`), then run again: it goes on from its last whole state.",
        )
    if MEMORY_FULL.search(text):
        return _out_of_memory(f"The memory was too small for sd-scripts{at}.", ended)
    if module:
        return missing_module(module[1], ended.where)
    killed = _signal(ended.code, text)
    if killed == "SIGKILL":
        return _out_of_memory(f"sd-scripts was killed (SIGKILL, exit code 137){at}; often the memory is full.", ended)
    if killed:
        return _broken_off(f"sd-scripts was ended by {killed}{at}.", ended)
    if OFFLINE.search(text):
        return MachineError(
            "sd-scripts could not fetch what it needs the first time: the tokenizers of SDXL's text encoders.",
            where=ended.where,
            cure="Start it once with a connection, or put the tokenizers into a folder and name it in your template: "
            'tokenizer_cache_dir = "FOLDER"',
        )
    return _refused(ended, text, at)


def not_a_number(ended: Ended) -> UserError:
    """The loss became NaN; nothing good can come after it."""
    rate = ended.options.get("learning_rate")
    precision = ended.options.get("mixed_precision")
    half = ' Use mixed_precision = "bf16" instead of fp16.' if precision == "fp16" else ""
    return UserError(
        f"The loss is not a number at {ended.step}; training was stopped.",
        where=ended.where,
        cure=f"Set a smaller train.learning_rate (now {rate}) and run again.{half}",
    )


def no_file(ended: Ended) -> UserError:
    """It ended well by its own account, and there is no LoRA."""
    text = "\n".join(ended.tail)
    if "No data found" in text or "no images" in text.lower() or not ended.step:
        return UserError(
            "sd-scripts ended without an error and without a LoRA: it found no pictures, or trained no step.",
            where=ended.where,
            cure="Look whether train_data_dir in the configuration holds a folder <repeats>_<trigger>; "
            "`bglora caption` writes it.",
        )
    return UserError(
        f"sd-scripts ended without an error at {ended.step}, and wrote no LoRA.",
        where=ended.where,
        cure="Its log says more. Look at output_dir, output_name and save_model_as in your template.",
    )


def missing_module(said: str, where: str) -> MachineError:
    """A package that its Python lacks."""
    match = MISSING.search(said)
    name = match[1].partition(".")[0] if match else ""
    cure = OTHER_MODULES.get(name, "pip install -r requirements.txt in the folder of sd-scripts, with that Python")
    return MachineError(
        f"The Python of sd-scripts lacks the package {name}." if name else f"A package of sd-scripts is broken: {said}",
        where=where,
        cure=f"{cure}; or name another Python in train.kohya_python.",
    )


def cause(tail: Iterable[str]) -> str:
    """The last error that the script itself named; empty if none."""
    found = [match[1] for line in tail if (match := SAID.match(line.strip()))]
    own = [line for line in found if not any(name in line for name in LAUNCHERS)]
    return own[-1] if own else ""


def _smaller(options: Mapping[str, Any], template: str) -> str:
    """Settings and templates that need less, the ones that cost least first."""
    ways = []
    if not options.get("gradient_checkpointing"):
        ways.append("bglora set train.gradient_checkpointing true")
    if options.get("train_batch_size", 1) > 1:
        ways.append("bglora set train.batch_size 1, and train.accumulation so many times higher")
    before = TEMPLATES[: TEMPLATES.index(template)] if template in TEMPLATES else TEMPLATES[:1]
    if before:
        ways.append(f"bglora set train.kohya_template {before[-1]}")
    if options.get("network_dim", 4) > 32:
        ways.append("bglora set train.dim 32, and train.alpha 24")
    if not ways:
        ways.append("bglora set train.resolution 768")
    return f"{'; or '.join(ways)}. Close other programs on the card; then run again."


def _out_of_memory(what: str, ended: Ended) -> MachineError:
    workers = ended.options.get("max_data_loader_n_workers", 8)
    return MachineError(
        what,
        where=ended.where,
        cure=f"Close other programs, or set max_data_loader_n_workers = {min(workers, 1)} (now {workers}) in a template"
        " of your own; then run again: it goes on from its last whole state.",
    )


def _signal(code: int, text: str) -> str:
    """The signal that ended it, by the exit code or by what a launcher said; empty if none."""
    if code > 128:
        try:
            return signal.Signals(code - 128).name
        except ValueError:
            pass
    return next((match[1] for pattern in SIGNALS if (match := pattern.search(text))), "")


def _refused(ended: Ended, text: str, at: str) -> BgloraError:
    said = cause(ended.tail) or next((line for line in reversed(ended.tail) if "error:" in line), "")
    match = REFUSED.search(said)
    if match and match["unknown"]:
        return UserError(
            f"This sd-scripts doesn't know {match['unknown']}.",
            where=ended.where,
            cure="Update sd-scripts (git pull), or take the key out of your template.",
        )
    key = next((key for key in sorted(ended.options, key=len, reverse=True) if re.search(rf"\b{key}\b", said)), "")
    if not at and match:
        return UserError(
            f"sd-scripts refused to start: {said or f'exit code {ended.code}'}",
            where=ended.where,
            cure=f"Mend {key or 'the value that it names'} in your template in templates/kohya/ of the project.",
        )
    said = said or _last(ended.tail) or "it said nothing"
    return _broken_off(f"sd-scripts ended with exit code {ended.code}{at}: {said}", ended)


def _broken_off(what: str, ended: Ended) -> BgloraError:
    """What may go well the next time. A machine's error keeps the states; without one there is nothing to keep."""
    if ended.from_epoch:
        cure = f"Run again: it goes on from the end of epoch {ended.from_epoch}. Its log says more."
        return MachineError(what, where=ended.where, cure=cure)
    return UserError(what, where=ended.where, cure="Its log says more. `bglora retry` trains the scene again.")


def _last(tail: Sequence[str]) -> str:
    return tail[-1].strip() if tail else ""
