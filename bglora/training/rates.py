"""Learning rate of an optimizer step, as a factor: the schedules of transformers, as functions of the step alone."""

from __future__ import annotations

import math
from collections.abc import Callable

from bglora.errors import UserError
from bglora.training.options import RateOptions


def checked(options: RateOptions) -> RateOptions:
    """Refuses what sd-scripts and transformers refuse.

    Raises:
        UserError: a constant rate with a warm-up.
    """
    if options.lr_scheduler == "constant" and options.lr_warmup_steps:
        raise UserError(
            "A constant learning rate knows no warm-up.",
            where=f"train.lr_scheduler = constant, train.lr_warmup_steps = {options.lr_warmup_steps:g}",
            cure="bglora set train.lr_scheduler constant_with_warmup; or bglora set train.lr_warmup_steps 0",
        )
    return options


def steps_of(value: float | int, steps: int) -> int:
    """A number of steps; a share of all of them where it is below 1, or 1.0 exactly, as sd-scripts reads a float."""
    return int(value * steps) if isinstance(value, float) and value <= 1 else int(value)


def factor(step: int, steps: int, base: float, options: RateOptions) -> float:
    """Share of the base rate at a step (from 0) of so many.

    `base` is the rate itself, which only polynomial asks for: it ends at 1e-7, not at 0.
    """
    options = checked(options)
    warmup = steps_of(options.lr_warmup_steps, steps)
    if step < warmup:
        return step / max(1, warmup)
    return SHAPES[options.lr_scheduler](step, warmup, steps, base, options)


def _constant(step: int, warmup: int, steps: int, base: float, o: RateOptions) -> float:
    return 1.0


def _progress(step: int, warmup: int, steps: int) -> float:
    return (step - warmup) / max(1, steps - warmup)


def _cosine(step: int, warmup: int, steps: int, base: float, o: RateOptions) -> float:
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * 0.5 * 2.0 * _progress(step, warmup, steps))))


def _restarts(step: int, warmup: int, steps: int, base: float, o: RateOptions) -> float:
    progress = _progress(step, warmup, steps)
    if progress >= 1.0:
        return 0.0
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((o.lr_scheduler_num_cycles * progress) % 1.0))))


def _min_lr(step: int, warmup: int, steps: int, base: float, o: RateOptions) -> float:
    share, least = _waves(_progress(step, warmup, steps), o), o.lr_scheduler_min_lr_ratio
    return max(0.0, share * (1 - least) + least)


def _waves(progress: float, o: RateOptions) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * (o.lr_scheduler_num_cycles / 2) * 2.0 * progress))


def _linear(step: int, warmup: int, steps: int, base: float, o: RateOptions) -> float:
    return max(0.0, (steps - step) / max(1, steps - warmup))


def _polynomial(step: int, warmup: int, steps: int, base: float, o: RateOptions) -> float:
    end = 1e-7
    if step > steps:
        return end / base
    remaining = 1 - (step - warmup) / (steps - warmup)
    return float(((base - end) * remaining**o.lr_scheduler_power + end) / base)


def _inverse_sqrt(step: int, warmup: int, steps: int, base: float, o: RateOptions) -> float:
    scale = o.lr_scheduler_timescale or warmup or 10_000
    return 1.0 / math.sqrt((step + scale - warmup) / scale)


def _stable_decay(step: int, warmup: int, steps: int, base: float, o: RateOptions) -> float:
    decay = steps_of(o.lr_decay_steps, steps)
    stable = steps - warmup - decay
    if step < warmup + stable:
        return 1.0
    if step >= steps:
        return o.lr_scheduler_min_lr_ratio
    share, least = _waves((step - warmup - stable) / max(1, decay), o), o.lr_scheduler_min_lr_ratio
    return max(0.0, (1.0 - least) * share + least)


SHAPES: dict[str, Callable[[int, int, int, float, RateOptions], float]] = {
    "constant": _constant,
    "constant_with_warmup": _constant,
    "cosine": _cosine,
    "cosine_with_restarts": _restarts,
    "cosine_with_min_lr": _min_lr,
    "linear": _linear,
    "polynomial": _polynomial,
    "inverse_sqrt": _inverse_sqrt,
    "warmup_stable_decay": _stable_decay,
}
