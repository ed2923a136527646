"""The report: `report/index.html`, one page that opens from disk with no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bglora.engine.stage import View
    from bglora.engine.status import StageStatus


def build_report(root: Path, view: View, status: Sequence[StageStatus]) -> Path:
    """Writes the report of the project at `root` and returns its path.

    Args:
        root: the project folder.
        view: rows, records, settings and decisions of the project.
        status: how far each stage is, in pipeline order, as `Runner.status()` tells it.
    """
    from bglora.report.page import build_page

    return build_page(root, view, status)
