"""transformers and diffusers without their bars and warnings, which would tear our own progress display."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

LIBRARIES = ("transformers", "diffusers")
"""In this order: importing diffusers makes transformers warn."""


def silence(*libraries: str) -> None:
    """For as long as the process lives: pipelines warn while they paint, too."""
    for library in libraries or LIBRARIES:
        logging = import_module(f"{library}.utils.logging")
        logging.set_verbosity_error()
        logging.disable_progress_bar()


@contextmanager
def quiet() -> Iterator[None]:
    """transformers, for a while; what matters of its warnings is an error where this is used."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    silence("transformers")
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
