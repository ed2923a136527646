"""Held-out shots drawn by code, with known truth: other places, speeds, sizes, grain and codecs than the sample film.

Backgrounds are stills of the folder `shared` (other places in the sample film's style, enlarged, with a fixed texture
of their own) and procedural walls. Figures walk on two legs, with shading, a striped coat and a soft shadow. Every shot
is drawn from its own seed; another `--seed` of the benchmark draws all of them anew. Nothing may be tuned to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tests.shared import ROOT as SHARED

HEIGHT, WIDTH, WORLD = 216, 384, 640
FINE = 3
"""Figures are drawn this many times larger and averaged."""
VISIBLE = 5.0
"""Grey levels (5 x 5 mean, largest channel) from which a shadow counts as an effect, as in the sample film's truth."""

GAMMA = 2.2
"""Exponent from grey levels to light."""

Moment = tuple[np.ndarray, np.ndarray]
"""Figures at one moment: their paint times coverage (H, W, 3) and their coverage (H, W)."""

Path = Callable[[float], tuple[float, float]]
"""Where the feet stand in the world at the share `u` of the shot, in pixels of the frame at rest."""


@dataclass(frozen=True)
class Actor:
    """A figure: where it goes, its height in pixels, its coat (RGB), how far it swings its limbs at `u`."""

    path: Path
    height: float = 78.0
    coat: tuple[int, int, int] = (214, 60, 48)
    swing: Callable[[float], float] = lambda u: 1.0
    shade: float = 0.38
    softness: float = 4.0


@dataclass(frozen=True)
class Kind:
    """What a shot is to try. `type`: the shot type whose bounds apply.

    Attributes:
        still: the first letters of a still's file name; empty: a procedural wall.
        camera: the view's shift (x, y) in pixels, zoom and roll in degrees at frame k of n.
        blur: moments averaged in a frame. moves: waves, leaves or nothing. bars: letterbox, pixels above and below.
    """

    name: str
    type: str
    seed: int
    actors: tuple[Actor, ...] = ()
    still: str = ""
    count: int = 18
    camera: Callable[[int, int], tuple[float, float, float, float]] = lambda k, n: (0.0, 0.0, 1.0, 0.0)
    grain: float = 1.2
    crf: int = 18
    flicker: float = 0.0
    blur: int = 1
    moves: str = ""
    bars: int = 0


@dataclass(frozen=True)
class Drawn:
    """A drawn shot: `frames` as they are encoded; `clean` uint8 BGR, `objects`, `effects` bool, all without bars."""

    kind: Kind
    frames: list[np.ndarray]
    clean: list[np.ndarray]
    objects: list[np.ndarray]
    effects: list[np.ndarray]

    def never_clean(self) -> np.ndarray:
        """Pixels that are covered or shaded in every frame."""
        return np.logical_and.reduce([o | e for o, e in zip(self.objects, self.effects, strict=True)])


def across(x0: float, x1: float, y: float, y1: float | None = None) -> Path:
    """From one place to another at constant speed."""
    return lambda u: (x0 + (x1 - x0) * u, y + ((y if y1 is None else y1) - y) * u)


def enters(x0: float, x1: float, y: float, until: float) -> Path:
    """Comes in and stays from the share `until` of the shot on."""
    return lambda u: (x0 + (x1 - x0) * min(1.0, u / until), y)


def leaves(x0: float, x1: float, y: float, until: float) -> Path:
    """Stands till the share `until` of the shot, then goes."""
    return lambda u: (x0 + (x1 - x0) * max(0.0, (u - until) / (1 - until)), y)


BLUE, GREEN, OCHRE, GREY, PALE = (50, 84, 200), (52, 140, 70), (226, 176, 44), (108, 104, 100), (206, 186, 160)
KINDS = (
    Kind("walks by", "still", 1, (Actor(across(40, 330, 186)),)),
    Kind("two touch and cross", "still", 2, (Actor(across(90, 290, 182), 84),
         Actor(across(300, 70, 192), 70, BLUE)), "town"),
    Kind("enters and stays", "still", 3, (Actor(enters(-30, 230, 190, 0.55), 88, GREEN,
         lambda u: float(u < 0.55)),), "room", 20),
    Kind("stands, then leaves", "still", 4, (Actor(leaves(150, 420, 188, 0.5), 80, OCHRE,
         lambda u: float(u > 0.5)),), "beach", 20),
    Kind("strong grain", "still", 5, (Actor(across(60, 300, 180), 72, BLUE),), "seafloor", grain=7.0, crf=20),
    Kind("compressed, CRF 32", "still", 6, (Actor(across(320, 60, 188), 86),), "room", crf=32),
    Kind("flicker", "still", 7, (Actor(across(50, 310, 184), 76, GREEN),), "town", flicker=0.08),
    Kind("fast, motion blur", "still", 8, (Actor(across(-40, 420, 190), 90, OCHRE),), "beach", blur=7),
    Kind("letterbox", "still", 9, (Actor(across(70, 320, 190), 74, BLUE),), "room", bars=30),
    Kind("faint soft shadow", "still", 10, (Actor(across(80, 300, 170), 80, GREEN, shade=0.16, softness=9),), "beach"),
    Kind("small and slow", "still", 11, (Actor(across(140, 172, 170), 26),), "town"),
    Kind("large", "still", 12, (Actor(across(-20, 400, 214), 170, BLUE),), "seafloor"),
    Kind("coat like the wall", "still", 13, (Actor(across(60, 320, 188), 80, PALE),), "beach"),
    Kind("waves", "water", 14, (Actor(across(70, 300, 176), 74),), "beach", moves="waves"),
    Kind("swaying leaves", "water", 15, (Actor(across(310, 80, 188), 78, BLUE),), moves="leaves"),
    Kind("sways in place", "idle", 16, (Actor(lambda u: (200 + 2.5 * np.sin(9 * u), 190 + 1.5 * np.sin(14 * u)), 96,
         OCHRE, lambda u: 0.25 + 0.2 * np.sin(11 * u)),), "room", 24),
    Kind("fast pan", "pan", 17, (Actor(across(90, 360, 186), 76, GREEN),), "town",
         camera=lambda k, n: (8.0 * k, 0.0, 1.0, 0.0)),
    Kind("zoom and roll", "pan", 18, (Actor(across(100, 300, 180), 80),), "seafloor",
         camera=lambda k, n: (20 + 1.5 * k, 2.0, 1 + 0.012 * k, 0.25 * k)),
    Kind("hand-held turn", "pan", 19, (Actor(across(80, 320, 186), 82, BLUE),), "beach", blur=3,
         camera=lambda k, n: (40 + 6 * np.sin(1.3 * k), 12 + 4 * np.sin(2.1 * k), 1.0, 0.8 * np.sin(0.9 * k))),
    Kind("nobody, flicker", "empty", 20, still="town", flicker=0.06),
    Kind("nobody, waves", "empty", 21, still="beach", moves="waves"),
)  # fmt: skip


def draw(kind: Kind, seed: int = 0, scale: float = 1.0) -> Drawn:
    """Draws a shot.

    Args:
        seed: added to the kind's own. scale: of the picture's size, 1 for 384 x 216.
    """
    rng = np.random.default_rng([kind.seed, seed])
    world = _world(kind, rng)
    gains = 1 + kind.flicker * rng.uniform(-1, 1, (kind.count, 1)) * np.array([1.0, 0.9, 1.1])
    drawn = Drawn(kind, [], [], [], [])
    size = (round(WIDTH * scale), round(HEIGHT * scale))
    for k in range(kind.count):
        view = _view(kind.camera(k, kind.count), scale)
        clean = cv2.warpAffine(
            _moved(world, kind.moves, k), view, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        moments, light = _figures(kind, k, view, size)
        picture, cover = _exposed(clean * light, moments)
        objects = cover > 0.5
        drawn.clean.append(_byte(clean * gains[k]))
        drawn.objects.append(objects)
        drawn.effects.append(_effects(picture, clean, objects))
        grain = cv2.GaussianBlur(rng.normal(0, 1, (size[1], size[0])).astype(np.float32), (0, 0), 0.6) * 2.1
        frame = _byte(picture * gains[k] + kind.grain * grain[..., None])
        drawn.frames.append(cv2.copyMakeBorder(frame, kind.bars, kind.bars, 0, 0, cv2.BORDER_CONSTANT))
    return drawn


def painted(frames: Sequence[np.ndarray], actors: tuple[Actor, ...]) -> Drawn:
    """Figures painted over real frames, uint8 BGR of one size, whose truth is therefore known.

    Args:
        actors: their paths and heights are for pictures 384 wide.
    """
    height, width = frames[0].shape[:2]
    kind = Kind("painted", "real", 0, actors, count=len(frames))
    view = _view((0.0, 0.0, 1.0, 0.0), width / WIDTH)
    out = Drawn(kind, [], list(frames), [], [])
    for k, clean in enumerate(frames):
        moments, light = _figures(kind, k, view, (width, height))
        picture, cover = _exposed(clean * light, moments)
        objects = cover > 0.02
        out.frames.append(_byte(picture))
        out.objects.append(objects)
        out.effects.append((np.abs(out.frames[-1].astype(np.int16) - clean).max(2) > 0) & ~objects)
    return out


def _byte(picture: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _world(kind: Kind, rng: np.random.Generator) -> np.ndarray:
    """The background, float32 BGR (H, 640, 3): a still enlarged, with a texture of its own, or a wall."""
    if not kind.still:
        return _wall(rng)
    names = sorted((SHARED / "stills").glob(f"{kind.still}-*a.jpg"))
    picture = cv2.imread(str(names[int(rng.integers(len(names)))]))
    large = cv2.resize(picture, (WORLD, WORLD), interpolation=cv2.INTER_LANCZOS4).astype(np.float32)
    top = int(rng.integers(120, WORLD - HEIGHT - 60))
    part = large[top - 60 : top + HEIGHT + 60]
    rough = cv2.GaussianBlur(rng.normal(0, 1, part.shape[:2]).astype(np.float32), (0, 0), 0.7)
    return np.asarray(np.clip(part + 9 * rough[..., None], 8, 247), np.float32)[60:]


def _wall(rng: np.random.Generator) -> np.ndarray:
    """Plaster, planks and boxes: structure at all scales."""
    height = HEIGHT + 60
    out = np.full((height, WORLD, 3), rng.uniform(90, 160, 3), np.float32)
    for cells, strength in ((2, 26.0), (8, 16.0), (40, 9.0)):
        noise = rng.standard_normal((cells, 2 * cells, 1)) + 0.3 * rng.standard_normal((cells, 2 * cells, 3))
        noise = noise.astype(np.float32)
        out += strength * cv2.resize(noise, (WORLD, height), interpolation=cv2.INTER_CUBIC)
    for x in range(0, WORLD, 23):
        out[:, x : x + 2] -= 28
    for _ in range(34):
        x, y = int(rng.integers(0, WORLD - 20)), int(rng.integers(0, height - 20))
        w, h = int(rng.integers(8, 70)), int(rng.integers(8, 60))
        out[y : y + h, x : x + w] += rng.uniform(-45, 45) + rng.uniform(-16, 16, 3).astype(np.float32)
    return np.asarray(np.clip(cv2.GaussianBlur(out, (3, 3), 0.5), 8, 247), np.float32)


def _moved(world: np.ndarray, what: str, k: int) -> np.ndarray:
    """The background at frame k: the lower part with running waves, or the left third swaying, or as it is."""
    if not what:
        return world
    ys, xs = np.mgrid[0 : world.shape[0], 0 : world.shape[1]].astype(np.float32)
    if what == "waves":
        depth = np.clip((ys - 0.45 * HEIGHT) / 24, 0, 1)
        x = xs + depth * 3.0 * np.sin(ys / 5.0 + 0.9 * k)
        y = ys + depth * 2.2 * np.sin(xs / 13.0 - 0.7 * k + ys / 9.0)
        glint = depth * 9 * np.sin(xs / 6.0 + 1.1 * k) * np.sin(ys / 4.0 - 0.5 * k)
        return np.asarray(_taken(world, x, y) + glint[..., None], np.float32)
    leaf = np.clip((WIDTH / 3 - xs) / 20, 0, 1) * np.clip((0.8 * HEIGHT - ys) / 30, 0, 1)
    x = xs + leaf * 5.0 * np.sin(0.5 * k + xs / 31.0) * (1 + 0.4 * np.sin(ys / 11.0))
    return _taken(world, x, ys + leaf * 1.5 * np.sin(0.8 * k + ys / 17.0))


def _taken(world: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    moved = cv2.remap(world, x.astype(np.float32), y.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(moved, np.float32)


def _view(camera: tuple[float, float, float, float], scale: float) -> np.ndarray:
    """The matrix (2, 3) from the world's pixels to the frame's."""
    x, y, zoom, roll = camera
    turn = cv2.getRotationMatrix2D((WIDTH / 2 + x, HEIGHT / 2 + y), roll, zoom)
    turn[:, 2] -= (x, y)
    return np.asarray(turn * scale, np.float64)


def _figures(kind: Kind, k: int, view: np.ndarray, size: tuple[int, int]) -> tuple[list[Moment], np.ndarray]:
    """The figures at the moments of frame k and the light that their shadows leave (H, W, 3)."""
    width, height = size
    moments: list[Moment] = []
    light = np.ones((height, width, 3), np.float32)
    for moment in range(kind.blur):
        u = (k + 0.5 * moment / kind.blur) / (kind.count - 1)
        now, over = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
        for actor in sorted(kind.actors, key=lambda actor: actor.path(u)[1]):
            color, body = _figure(actor, u, view, size)
            now = now * (1 - body[..., None]) + color
            over = over + body - over * body
        moments.append((now, over))
    for actor in kind.actors:
        light *= 1 - _shadow(actor, (k + 0.25 * (kind.blur > 1)) / (kind.count - 1), view, size)
    return moments, light


def _exposed(behind: np.ndarray, moments: Sequence[Moment]) -> tuple[np.ndarray, np.ndarray]:
    """What a shutter that is open for all moments sees, which adds light and not grey levels, and the mean coverage."""
    pictures = [behind * (1 - over[..., None]) + paint for paint, over in moments]
    cover = np.mean([over for _, over in moments], 0)
    if len(pictures) == 1:
        return pictures[0], cover
    light = np.mean([np.clip(picture, 0, 255) ** GAMMA for picture in pictures], 0)
    return light ** (1 / GAMMA), cover


def _figure(actor: Actor, u: float, view: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One figure's paint times coverage, and its coverage."""
    width, height = size
    canvas = np.zeros((FINE * height, FINE * width, 4), np.uint8)
    unit = FINE * actor.height * float(np.hypot(view[0, 0], view[0, 1]))
    fx, fy = view @ np.array([*actor.path(u), 1.0]) * FINE
    forward = 1 if actor.path(min(1, u + 0.05))[0] >= actor.path(max(0, u - 0.05))[0] else -1
    step = actor.swing(u) * np.sin(actor.path(u)[0] / (0.09 * actor.height) + 3 * u)
    coat = np.array(actor.coat[::-1], np.float64)
    skin = np.array((128.0, 168.0, 226.0))

    def at(x: float, y: float) -> tuple[int, int]:
        return round(fx + forward * x * unit), round(fy - y * unit)

    def limb(x0: float, y0: float, x1: float, y1: float, thick: float, color: np.ndarray) -> None:
        cv2.line(canvas, at(x0, y0), at(x1, y1), (*color.tolist(), 255), max(1, round(thick * unit)))

    def disk(x: float, y: float, rx: float, ry: float, color: np.ndarray) -> None:
        axes = (max(1, round(rx * unit)), max(1, round(ry * unit)))
        cv2.ellipse(canvas, at(x, y), axes, 0, 0, 360, (*color.tolist(), 255), -1)

    limb(0, 0.62, -0.14 * step, 0.4, 0.075, coat * 0.62)
    limb(0, 0.36, -0.13 * step, 0.04, 0.11, np.array((96.0, 62.0, 44.0)))
    limb(0, 0.36, 0.13 * step, 0.04, 0.11, np.array((120.0, 78.0, 56.0)))
    disk(0, 0.52, 0.14, 0.21, coat)
    for stripe in (0.42, 0.52, 0.62):
        limb(-0.09, stripe, 0.09, stripe, 0.03, coat * 0.45 + 120)
    disk(-0.03, 0.83, 0.165, 0.165, np.array((40.0, 62.0, 92.0)))
    disk(0.03, 0.81, 0.14, 0.14, skin)
    disk(0.09, 0.83, 0.022, 0.03, np.array((30.0, 26.0, 24.0)))
    limb(0, 0.64, 0.15 * step, 0.42, 0.075, coat * 0.85)
    small = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    lit = 1.12 - 0.3 * np.clip((np.arange(width, dtype=np.float32) - fx / FINE) / (0.3 * unit / FINE), -1, 1)
    return small[..., :3] * lit[None, :, None], small[..., 3] / 255


def _shadow(actor: Actor, u: float, view: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """How much light a figure takes away, 0 to 1, (H, W, 3)."""
    width, height = size
    unit = actor.height * float(np.hypot(view[0, 0], view[0, 1]))
    x, y = view @ np.array([*actor.path(u), 1.0])
    shape = np.zeros((height, width), np.float32)
    axes = (max(2, round(0.34 * unit)), max(2, round(0.08 * unit)))
    cv2.ellipse(shape, (round(x + 0.26 * unit), round(y)), axes, -8, 0, 360, 1.0, -1)
    soft = cv2.GaussianBlur(shape, (0, 0), actor.softness * unit / 80)
    return np.asarray(actor.shade * soft[..., None] * np.array([0.85, 0.95, 1.0]), np.float32)


def _effects(picture: np.ndarray, clean: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Where somebody's shadow is seen: the sample film's rule."""
    away = np.abs(cv2.blur(picture, (5, 5)) - cv2.blur(clean, (5, 5))).max(2)
    seen = ((away > VISIBLE) & ~objects).astype(np.uint8)
    seen = cv2.morphologyEx(seen, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) & ~objects
    count, labels, stats, _ = cv2.connectedComponentsWithStats(seen, connectivity=8)
    keep = np.zeros(count, bool)
    keep[1:] = stats[1:, cv2.CC_STAT_AREA] >= 40
    return np.asarray(keep[labels])
