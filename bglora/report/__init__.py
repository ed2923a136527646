"""The report: `report/index.html`, one page that opens from disk with no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bglora.engine.stage import View
    from bglora.engine.status import StageStatus
    from bglora.report.pipeline import Decision


def build_report(root: Path, view: View, status: Sequence[StageStatus], decided: Sequence[Decision] = ()) -> Path:
    """Writes the report of the project at `root` and returns its path.

    Args:
        root: the project folder.
        view: rows, records, settings and decisions of the project.
        status: how far each stage is, in pipeline order, as `Runner.status()` tells it.
        decided: what stages decided on their own, with the settings that change it.
    """
    from bglora.report.page import build_page

    return build_page(root, view, status, decided)
