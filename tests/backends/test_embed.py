"""Backends of the role `embed`, and what the descriptor makes of light and places."""

from __future__ import annotations

import json
from itertools import combinations

import cv2
import numpy as np
import pytest

from bglora import backends
from bglora.settings import Settings
from bglora.vision.matching import find_points, same_place
from bglora.vision.places import effective_minimum
from tests.backends import tiny_openclip
from tests.shared import shared
from tests.stages.drawn_plates import place


@pytest.fixture(scope="module", params=sorted(backends.REGISTRY["embed"]))
def embed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> object:
    settings = Settings().cluster
    if request.param == "openclip":
        folder = tiny_openclip.write(tmp_path_factory.mktemp("openclip"))
        settings = settings.model_copy(update={"openclip": str(folder)})
    return backends.load("embed", request.param, settings)


@pytest.fixture(scope="module")
def descriptor() -> object:
    return backends.load("embed", "descriptor", Settings().cluster)


def test_vectors_have_length_one_one_a_picture_in_order(embed) -> None:
    pictures = [place(k, 0)[: 100 + k] for k in range(40)]
    vectors = embed.embed(iter(pictures))
    assert vectors.dtype == np.float32 and vectors.shape[0] == 40
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    # a net's last digits may change with the batch
    assert np.allclose(embed.embed(pictures[7:8])[0], vectors[7], atol=1e-5)
    assert not np.allclose(vectors[7], vectors[8], atol=1e-3)


def test_likeness_grows_with_the_cosine_and_ends_at_one(embed) -> None:
    alike = embed.likeness(np.linspace(-1, 1, 201))
    assert (np.diff(alike) >= 0).all() and alike[0] == 0 and alike[-1] == pytest.approx(1)


def test_no_pictures_give_no_vectors(embed) -> None:
    assert embed.embed([]).shape[0] == 0


def test_black_and_tiny_pictures_are_described(embed) -> None:
    vectors = embed.embed([np.zeros((1, 1, 3), np.uint8), np.full((9, 400, 3), 255, np.uint8)])
    assert np.isfinite(vectors).all()


def stills() -> dict[str, dict[str, list[np.ndarray]]]:
    """Kind of place to built place to the pictures of its cameras."""
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for line in shared("stills", "captions.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["file"].endswith("a.jpg"):
            picture = cv2.imread(str(shared("stills", row["file"])))
            built = found.setdefault(row["place"], {}).setdefault(row["file"].rpartition("-")[0], [])
            built.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    return found


def graded(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another exposure (gamma 0.75 to 1.3) and white balance (10 % per channel)."""
    changed = (picture / 255) ** rng.uniform(0.75, 1.3) * rng.uniform(0.9, 1.1, 3)
    return (np.clip(changed, 0, 1) * 255).round().astype(np.uint8)


def test_a_place_is_more_like_itself_from_another_side_than_like_other_places(descriptor) -> None:
    rng = np.random.default_rng(3)
    same, other, relit = [], [], []
    for built in stills().values():
        pictures = [picture for views in built.values() for picture in views]
        vectors = iter(descriptor.embed(pictures))
        views = [[next(vectors) for _ in own] for own in built.values()]
        for one in views:
            same += [one[a] @ one[b] for a, b in combinations(range(len(one)), 2)]
        other += [a[0] @ b[0] for a, b in combinations(views, 2)]
        pairs = [descriptor.embed([p, graded(p, rng)]) for p, *_ in list(built.values())[::4]]
        relit += [one @ two for one, two in pairs]
    above = np.mean(np.array(same)[:, None] > np.array(other)[None])
    assert above > 0.88  # chance is 0.5; other places of the same kind, often in the same light
    assert np.median(descriptor.likeness(np.array(relit))) > 0.5


def test_geometry_confirms_a_moved_camera_and_denies_another_place() -> None:
    town = find_points(place(3, 0))
    assert same_place(town, find_points(place(3, 0, 24)))
    assert not same_place(town, find_points(place(5, 0)))
    assert not same_place(town, find_points(np.full((144, 256, 3), 128, np.uint8)))


@pytest.mark.parametrize(
    ("sizes", "wanted", "least"),
    [
        ([20, 30], 15, 4),  # small: a twelfth of its plates
        ([300, 200, 14], 15, 15),
        ([7, 6, 7, 6], 15, 2),
        ([1, 1, 1, 1], 15, 1),
        ([8] * 100, 15, 8),  # nothing reaches it: never an empty result
        ([1], 15, 1),
    ],
)
def test_the_minimum_follows_a_small_film(sizes: list[int], wanted: int, least: int) -> None:
    assert effective_minimum(sizes, wanted) == least
