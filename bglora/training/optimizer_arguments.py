"""An optimizer's arguments as texts, the way sd-scripts writes them: `betas=0.9,0.99`."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from bglora.errors import UserError

USUAL_DECAY: Mapping[str, float] = {"adamw": 0.01, "adamw8bit": 0.01, "prodigy": 0.0, "schedule_free": 0.0}
"""Weight decay of each optimizer's own library where nothing is said; bitsandbytes and PyTorch have 0.01."""


def optimizer_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Name to value; values are Python literals.

    Raises:
        UserError: an entry is none.
    """
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError) as error:
            raise UserError(
                f"{text!r} is no argument of an optimizer.",
                where="train.optimizer_args",
                cure='Write each as a text: ["betas=0.9,0.99", "eps=1e-8"].',
            ) from error
    return found
