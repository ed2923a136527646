"""Options of sd-scripts that are lists of `name=value`: what is wrong inside them, and two of them laid together.

sd-scripts looks into them only after it has loaded the model. The values of `network_args` stay texts, and a name that
the network doesn't know is ignored; those of the other two are read as Python, and an unknown name fails.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal

PYTHON = ("optimizer_args", "lr_scheduler_args")
LISTS = ("network_args", *PYTHON)
PLAIN = "networks.lora"
BLOCKS = 23
"""Of SDXL's U-Net: the time embedding, 9 down, 3 middle, 9 up, the end."""
SHAPES = ("cosine", "sine", "linear", "reverse_linear", "zeros")
"""Words for `down_lr_weight` and `up_lr_weight`, with `+0.25` for an offset."""
LYCORIS = ("algo", "dora_wd", "preset", "factor", "use_tucker")
"""Names that only lycoris.kohya knows."""
Row = tuple[str, str, str, Literal["error", "notice"]]
"""Option, what happens, cure, grade."""


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _whole(text: str) -> bool:
    return text.strip().removeprefix("-").isdigit()


def _each(right: Callable[[str], bool], count: int) -> Callable[[str], bool]:
    def all_right(text: str) -> bool:
        parts = text.split(",")
        return len(parts) <= count and all(right(part) for part in parts)

    return all_right


def _of_every_block(right: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: text.count(",") == BLOCKS - 1 and _each(right, BLOCKS)(text)


def _shape(text: str) -> bool:
    name, _, offset = text.partition("+")
    return (name in SHAPES and (not offset or _number(offset))) or ("," in text and _each(_number, 9)(text))


KNOWN: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "conv_dim": (_whole, "a whole number"),
    "conv_alpha": (_number, "a number"),
    "rank_dropout": (_number, "a number"),
    "module_dropout": (_number, "a number"),
    "loraplus_lr_ratio": (_number, "a number"),
    "loraplus_unet_lr_ratio": (_number, "a number"),
    "loraplus_text_encoder_lr_ratio": (_number, "a number"),
    "down_lr_weight": (_shape, f"9 numbers with commas, or one of {', '.join(SHAPES)}"),
    "mid_lr_weight": (_each(_number, 3), "3 numbers with commas"),
    "up_lr_weight": (_shape, f"9 numbers with commas, or one of {', '.join(SHAPES)}"),
    "block_lr_zero_threshold": (_number, "a number"),
    "block_dims": (_of_every_block(_whole), f"{BLOCKS} whole numbers with commas"),
    "block_alphas": (_of_every_block(_number), f"{BLOCKS} numbers with commas"),
    "conv_block_dims": (_of_every_block(_whole), f"{BLOCKS} whole numbers with commas"),
    "conv_block_alphas": (_of_every_block(_number), f"{BLOCKS} numbers with commas"),
}
"""What networks.lora reads of its arguments."""


def list_problems(options: Mapping[str, Any]) -> Iterator[Row]:
    """All that is wrong inside the lists of one configuration; other types than lists are not looked at."""
    for key in LISTS:
        entries = options.get(key)
        if isinstance(entries, list):
            texts = [entry for entry in entries if isinstance(entry, str)]
            for entry in texts:
                yield from _entry(key, entry, options)
            names = [entry.partition("=")[0] for entry in texts]
            for name in sorted({name for name in names if names.count(name) > 1}):
                yield key, f"has {name} twice; the later one counts.", "Delete one of them.", "error"


def laid_over(below: Sequence[str], above: Sequence[str]) -> list[str]:
    """One list where the entries of `above` win over those of `below` with the same name, and all others stay."""
    found = {entry.partition("=")[0]: entry for entry in below}
    return list((found | {entry.partition("=")[0]: entry for entry in above}).values())


def _entry(key: str, entry: str, options: Mapping[str, Any]) -> Iterator[Row]:
    name, equals, value = entry.partition("=")
    if not equals or "=" in value or not name:
        yield key, f'has "{entry}", which is no name=value; the start fails.', f'Write "{name}=VALUE".', "error"
    elif key in PYTHON:
        yield from _python(key, name, value)
    elif options.get("network_module") == PLAIN:
        yield from _plain(key, name, value)


def _python(key: str, name: str, value: str) -> Iterator[Row]:
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        cure = f"""Write "{name}='{value}'" if it is a text, or a number, True, False, None or a tuple."""
        yield key, f'has "{name}={value}", which is read as Python and is none; the start fails.', cure, "error"


def _plain(key: str, name: str, value: str) -> Iterator[Row]:
    if name in LYCORIS:
        what = f"has {name}, which {PLAIN} ignores silently."
        yield key, what, 'Write network_module = "lycoris.kohya" (pip install lycoris-lora).', "error"
    elif name not in KNOWN:
        near = get_close_matches(name, KNOWN, 1)
        cure = f"The nearest is {near[0]}." if near else "Delete it, unless your sd-scripts is newer and knows it."
        yield key, f"has {name}, which {PLAIN} ignores silently.", cure, "error" if near else "notice"
    elif not KNOWN[name][0](value):
        yield key, f'has "{name}={value}", but {KNOWN[name][1]} is needed.', "Write it so.", "error"
