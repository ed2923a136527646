"""How much of the film's characters a picture shows: no judge's opinion, but a share between a plate and its frame.

Frame minus plate is what a character looks like where it stood. A picture of the same camera is taken apart along this
difference: 0 is the plate, 1 the frame. It tells what the small judge, made for sharper pictures, cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CLEAR, LEAST = 32.0, 0.01
"""Grey levels from which frame and plate differ by a character, and share of the picture that they must differ on."""


@dataclass(frozen=True)
class Ghosts:
    """Frames of a scene with the plates that were made of them.

    Attributes:
        shots: shot of each. plates, frames: uint8 (n, S, S, 3), as soft as the base paints.
    """

    shots: Sequence[str]
    plates: np.ndarray
    frames: np.ndarray

    def strengths(self, pictures: np.ndarray) -> np.ndarray:
        """Of each picture, (m,), uint8 (m, S, S, 3): the most of any character of the camera that it is most like."""
        plates = self.plates.astype(np.float32)
        difference = self.frames.astype(np.float32) - plates
        there = np.abs(difference).max(axis=3) > CLEAR
        difference *= there[..., None]
        energy = np.square(difference).sum(axis=(1, 2, 3))
        known = there.mean(axis=(1, 2)) > LEAST
        shots = np.array(self.shots)
        found = np.zeros(len(pictures))
        for number, picture in enumerate(pictures.astype(np.float32)):
            rest = picture - plates
            away = (np.abs(rest).mean(axis=3) * ~there).sum(axis=(1, 2)) / (~there).sum(axis=(1, 2))
            same = known & (shots == shots[int(away.argmin())])
            if same.any():
                found[number] = ((rest * difference).sum(axis=(1, 2, 3))[same] / energy[same]).max()
        return found
