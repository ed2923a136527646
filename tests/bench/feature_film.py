"""A made film of any length: the sample film's shots and the real clips' cut anew, at 512 x 288.

It is edited as films are: scene after scene at one place, each scene graded and framed in its own way, shots of drawn
length, a place coming back now and then. A shot goes to and fro over its material, at a speed of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from bglora.film.video import VideoFile
from tests.bench.projects import FILM, encode, true_shots
from tests.shared import ROOT as SHARED

CLIPS = SHARED / "clips"
SIZE = (288, 512)
FPS = 24
FRAMES = 130_000
MINUTES = FRAMES / FPS / 60
LONGEST, SHORTEST = 96, 12
"""Frames of one piece of material; shorter ones of the clips are left out."""
SHOTS_OF_A_SCENE = (4, 15)
MEDIAN_SHOT, SPREAD, SHOT_LIMITS = 60.0, 0.5, (20, 220)
"""Frames of a shot: drawn log-normally. The mean is about 68, that is 2.8 seconds."""
SPEEDS = (0.5, 1.0, 1.0, 1.0, 1.5)
PLACES = {"bbb_opening": "meadow", "bbb_burrow": "burrow", "bbb_burrow_hd": "burrow", "sintel_rooftop": "roofs"}


@dataclass(frozen=True)
class Piece:
    """Consecutive frames of one shot: uint8 BGR (N, 288, 512, 3)."""

    place: str
    frames: np.ndarray


@dataclass(frozen=True)
class Look:
    """How a scene was shot: mirrored or not, its exposure and white balance."""

    mirrored: bool
    table: np.ndarray
    """uint8 (1, 256, 3): what becomes of each level of B, G and R."""


@dataclass(frozen=True)
class Framing:
    """The part of the material's frame that a shot shows (top, left, height, width), its speed and where it begins."""

    part: tuple[int, int, int, int]
    speed: float
    start: int


def make_film(path: Path, frames: int, seed: int = 0) -> Path:
    """Writes a film of so many frames; the same frames for the same seed, whatever the length."""
    return encode(film(material(), frames, seed), path, crf=18, fps=FPS, preset="veryfast")


def film(pieces: list[Piece], frames: int, seed: int) -> Iterator[np.ndarray]:
    """Its frames, uint8 BGR (288, 512, 3)."""
    rng, left = np.random.default_rng(seed), frames
    places = sorted({piece.place for piece in pieces})
    place = ""
    while left > 0:
        place = str(rng.choice([one for one in places if one != place]))
        of_place = [piece for piece in pieces if piece.place == place]
        look = _look(rng)
        before = -1
        for _ in range(rng.integers(*SHOTS_OF_A_SCENE)):
            at = int(rng.choice([k for k in range(len(of_place)) if k != before or len(of_place) == 1]))
            length = int(np.clip(rng.lognormal(np.log(MEDIAN_SHOT), SPREAD), *SHOT_LIMITS))
            framing = _framing(rng, of_place[at])
            for number in range(min(length, left)):
                yield _shown(of_place[at], look, framing, number)
            before, left = at, left - length
            if left <= 0:
                return


def material() -> list[Piece]:
    """What the film is cut from: the sample film's shots, and of the clips what is neither title nor fade."""
    pieces = [
        Piece(shot["place"], _frames(FILM, shot["first"], shot["first"] + shot["count"] - 1)) for shot in true_shots()
    ]
    for clip, rows in json.loads((CLIPS / "shots.json").read_text("utf-8")).items():
        name = Path(clip).stem
        for row in rows:
            if row["kind"] == "shot" and row["last"] - row["first"] + 1 >= SHORTEST:
                place = PLACES.get(name) or ("hut" if row["shot"] >= 4 else "snow")
                last = min(row["last"], row["first"] + LONGEST - 1)
                bars = (58, 59) if name == "sintel_rooftop" else (0, 0)
                pieces.append(Piece(place, _frames(CLIPS / clip, row["first"], last, bars)))
    return pieces


def _frames(path: Path, first: int, last: int, bars: tuple[int, int] = (0, 0)) -> np.ndarray:
    found = []
    with VideoFile(path, threads=1) as video:
        for number, frame in video.decode():
            if number > last:
                break
            if number >= first:
                picture = video.picture(frame)
                found.append(_fitted(picture[bars[0] : len(picture) - bars[1], :, ::-1]))
    return np.stack(found)


def _fitted(picture: np.ndarray) -> np.ndarray:
    """The middle of a picture in the film's proportions and size."""
    height, width = picture.shape[:2]
    tall, wide = min(height, width * SIZE[0] // SIZE[1]), min(width, height * SIZE[1] // SIZE[0])
    top, left = (height - tall) // 2, (width - wide) // 2
    part = np.ascontiguousarray(picture[top : top + tall, left : left + wide])
    return cv2.resize(part, SIZE[::-1], interpolation=cv2.INTER_AREA)


def _look(rng: np.random.Generator) -> Look:
    gain = rng.uniform(0.8, 1.15) * rng.uniform(0.95, 1.05, 3)
    levels = np.clip(np.rint(np.arange(256)[:, None] * gain), 0, 255).astype(np.uint8)
    return Look(bool(rng.integers(2)), levels[None])


def _framing(rng: np.random.Generator, piece: Piece) -> Framing:
    tall = int(SIZE[0] * rng.uniform(0.82, 1.0))
    wide = tall * SIZE[1] // SIZE[0]
    top, left = (int(rng.integers(whole - part + 1)) for whole, part in ((SIZE[0], tall), (SIZE[1], wide)))
    return Framing((top, left, tall, wide), float(rng.choice(SPEEDS)), int(rng.integers(len(piece.frames))))


def _shown(piece: Piece, look: Look, framing: Framing, number: int) -> np.ndarray:
    """Frame `number` of a shot."""
    turn = 2 * (len(piece.frames) - 1)
    at = (framing.start + int(number * framing.speed)) % turn
    picture = piece.frames[min(at, turn - at)]
    top, left, tall, wide = framing.part
    part = cv2.resize(picture[top : top + tall, left : left + wide], SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.LUT(part[:, ::-1] if look.mirrored else part, look.table))
