"""Tests run in two processes (`addopts` in pyproject.toml); one thread each, or they wait for each other."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
