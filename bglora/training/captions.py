"""What a caption becomes at one showing: prefix, dropout, wildcards, tags shuffled, dropped, warmed up.

The steps, their order and their use of randomness are sd-scripts' (library/train_util.py, process_caption).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from random import Random

from bglora.training.options import CaptionOptions


@dataclass(frozen=True)
class Moment:
    """When a caption is shown: epoch (from 1), optimizer step (from 0), and how many steps there will be."""

    epoch: int
    step: int
    steps: int


def processed(caption: str, options: CaptionOptions, moment: Moment, rng: Random) -> str:
    """The caption as it is encoded at one showing; empty where it is dropped."""
    caption = affixed(caption, options)
    if _dropped(options, moment, rng):
        return ""
    caption = _wildcards(caption, rng) if options.enable_wildcard else caption.split("\n")[0]
    if options.shuffle_caption or options.token_warmup_step > 0 or options.caption_tag_dropout_rate > 0:
        caption = _retagged(caption, options, moment, rng)
    if options.secondary_separator:
        caption = caption.replace(options.secondary_separator, options.caption_separator)
    return caption


def affixed(caption: str, options: CaptionOptions) -> str:
    """With prefix and suffix, a space between each."""
    if options.caption_prefix:
        caption = f"{options.caption_prefix} {caption}"
    return f"{caption} {options.caption_suffix}" if options.caption_suffix else caption


def _dropped(options: CaptionOptions, moment: Moment, rng: Random) -> bool:
    drawn = options.caption_dropout_rate > 0 and rng.random() < options.caption_dropout_rate
    every = options.caption_dropout_every_n_epochs
    return drawn or (every > 0 and moment.epoch % every == 0)


def _wildcards(caption: str, rng: Random) -> str:
    """`{red|blue}` becomes one of the two, `{{` and `}}` become braces; of several lines one is taken."""
    if "\n" in caption:
        caption = rng.choice(caption.split("\n"))
    opened, closed = "\x00", "\x01"  # stand for braces; no text file has them
    caption = caption.replace("{{", opened).replace("}}", closed)
    caption = re.sub(r"\{([^}]+)\}", lambda match: rng.choice(match.group(1).split("|")), caption)
    return caption.replace(opened, "{").replace(closed, "}")


def _retagged(caption: str, options: CaptionOptions, moment: Moment, rng: Random) -> str:
    fixed, flexible, last = _parted(caption, options)
    flexible = flexible[: _warmed_up(len(flexible), options, moment)]
    if options.shuffle_caption:
        rng.shuffle(flexible)
    if options.caption_tag_dropout_rate > 0:
        flexible = [tag for tag in flexible if rng.random() >= options.caption_tag_dropout_rate]
    return ", ".join(fixed + flexible + last)


def _parted(caption: str, options: CaptionOptions) -> tuple[list[str], list[str], list[str]]:
    """Tags that stay in front, that may move, that stay at the end."""
    mark = options.keep_tokens_separator
    if mark and mark in caption:
        parts = (caption.split(mark, 2) + [""])[:3]
        fixed, flexible, last = ([tag for tag in _tags(part, options) if tag] for part in parts)
        return fixed, flexible, last
    tags = _tags(caption.strip(), options)
    return tags[: options.keep_tokens], tags[options.keep_tokens :], []


def _tags(text: str, options: CaptionOptions) -> list[str]:
    return [tag.strip() for tag in text.split(options.caption_separator)]


def _warmed_up(count: int, options: CaptionOptions, moment: Moment) -> int:
    """How many of so many flexible tags are shown yet."""
    whole = options.token_warmup_step
    steps = math.floor(whole * moment.steps) if whole < 1 else int(whole)
    if not steps or moment.step >= steps:
        return count
    return math.floor(moment.step * ((count - options.token_warmup_min) / steps)) + options.token_warmup_min
