"""Masks by SAM 2.1: characters found by words or pointed out by a person, and followed through the shot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bglora import backends
from bglora.backends import weights

if TYPE_CHECKING:
    from bglora.backends.masks.following import FollowedMasks

REVISION = "sam2/1"


def identity(settings: Any) -> str:
    """Revision and weights of the net and of the detector."""
    detector = backends.identity("detect", settings.detector, settings) if settings.targets else "no detector"
    return f"{REVISION} {weights.identity(settings.sam2)} {detector}"


def create(settings: Any) -> FollowedMasks:
    """The backend with the settings of `segment`."""
    from bglora.backends.masks.following import FollowedMasks
    from bglora.nets import sam2
    from bglora.nets.device import device, dtype

    path = weights.find(settings.sam2, setting="segment.sam2")
    detector = backends.load("detect", settings.detector, settings) if settings.targets else None
    return FollowedMasks(sam2.Sam2Follower(sam2.load(path, device(), dtype(device()))), detector, settings)
