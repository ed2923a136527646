"""Masks by SAM 3: the words of `targets` go straight in; what they name is found with its mask and followed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bglora.backends import weights

if TYPE_CHECKING:
    from bglora.backends.masks.following import FollowedMasks

REVISION = "sam3/1"


def identity(settings: Any) -> str:
    """Revision and weights."""
    return f"{REVISION} {weights.identity(settings.sam3)}"


def create(settings: Any) -> FollowedMasks:
    """The backend with the settings of `segment`."""
    from bglora.backends.masks.following import FollowedMasks
    from bglora.nets import sam3
    from bglora.nets.device import device, dtype

    folder = weights.find(settings.sam3, setting="segment.sam3")
    follower = sam3.Sam3Follower(sam3.load(folder, device(), dtype(device())))
    detector = None
    if settings.targets:
        detector = sam3.Sam3Detector(follower, folder, settings.min_score or sam3.LEAST)
    return FollowedMasks(follower, detector, settings)
