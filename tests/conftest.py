"""Tests run in two processes (`addopts` in pyproject.toml); one thread each, or they wait for each other."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.ray_processes import MARK, left

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def no_process_of_ray_is_left() -> Iterator[None]:
    """Whatever the tests of this process start of Ray, they also end."""
    os.environ[MARK] = str(os.getpid())
    yield
    if "ray" in sys.modules:
        assert not left(str(os.getpid()), "ray", patience=20.0)
