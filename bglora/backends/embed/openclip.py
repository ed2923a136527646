"""OpenCLIP as `embed` backend: tells places apart by what a picture shows, and names them by words.

Through the package open_clip_torch where it can be used, else through transformers' CLIP classes with the same
weights; vectors differ by less than 1e-4. Which of the two is part of the identity and is said.

Words are compared as Radford et al. 2021 do ("Learning Transferable Visual Models From Natural Language Supervision",
3.1.4): each word in several sentences, their vectors averaged, a softmax over all words at the model's own scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bglora.backends import weights
from bglora.backends.batches import batches
from bglora.backends.embed import openclip_names

if TYPE_CHECKING:
    from bglora.nets.openclip import Towers
    from bglora.nets.openclip_checkpoint import Published

VERSION = "openclip/1"
BATCH = 32
UNLIKE = 0.5
"""Cosine that counts as no likeness: CLIP's vectors of unrelated pictures lie in one narrow cone, at about 0.5 to
each other (Liang et al. 2022, "Mind the Gap")."""
BORDER = 0.75
"""Cosine of the border of two places, the recipe's own. Views of one thing from several sides are at 0.885 on average
(Ruiz et al. 2023, "DreamBooth", CLIP-I of real pictures)."""
SENTENCES = (
    "a photo of a {}.",
    "a rendering of a {}.",
    "a still of a {} from an animated film.",
    "the background of a {}, nobody there.",
)
F32 = NDArray[np.float32]


def identity(settings: Any) -> str:
    """Weights and the library that they run through: other numbers in the last digits."""
    version, _ = openclip_names.package()
    road = f"open_clip-{version}" if version else "transformers"
    return f"{VERSION} {openclip_names.identity(settings.openclip)} {road}"


def names_of_weights(settings: Any) -> dict[str, str]:
    """The weights that it reads, by the key that names them."""
    return {"openclip": openclip_names.named(settings.openclip).weights}


def create(settings: Any) -> OpenClip:
    """The backend; `settings` is the table `cluster`.

    Raises:
        MachineError: no weights here, or no library that can run them.
        UserError: no such weights, or damaged ones, or those of another model.
    """
    from bglora.nets import device, openclip
    from bglora.nets.openclip_checkpoint import open_published

    one = openclip_names.named(settings.openclip)
    where = weights.find(one.weights, setting=openclip_names.SETTING)
    published = open_published(where, one.config, one.usual)
    version, why = openclip_names.package()
    if not published.config:
        why = why or "these weights are in transformers' form"
    card = device.device()
    if why:
        towers: Towers = openclip.Classes(published, card)
        return OpenClip(published, towers, f"OpenCLIP runs through transformers: {why}")
    return OpenClip(published, openclip.Package(published, card), f"OpenCLIP runs through open_clip_torch {version}")


class OpenClip:
    """The `embed` role by OpenCLIP.

    Attributes:
        said: through which library it runs, and why.
    """

    def __init__(self, published: Published, towers: Towers, said: str) -> None:
        self.published, self.towers, self.said = published, towers, said

    def embed(self, pictures: Iterable[np.ndarray]) -> F32:
        """Describes pictures.

        Args:
            pictures: uint8 RGB (H, W, 3), any sizes; taken a few at a time, so a generator keeps memory small.

        Returns:
            float32 (N, D), each row of length 1.
        """
        from bglora.nets.device import in_halves
        from bglora.nets.openclip import prepare

        rows: list[F32] = []
        with ThreadPoolExecutor() as pool:
            for batch in batches(pictures, BATCH):
                ready = list(pool.map(lambda picture: prepare(picture, self.published.prepared), batch))
                rows += in_halves(self._vectors, ready, BATCH, where="cluster.backend = openclip")
        if not rows:
            return np.zeros((0, self._width()), np.float32)
        return _unit(np.stack(rows))

    def likeness(self, cosines: np.ndarray) -> np.ndarray:
        """Cosines as likeness, 0 to 1: 0.75 is the border of two places. What is below the border is stretched, so that
        unlike pictures, which CLIP puts near each other, are at 0."""
        below = (cosines - UNLIKE) / (BORDER - UNLIKE) * 0.75
        above = 0.75 + (cosines - BORDER) / (1 - BORDER) * 0.25
        return np.clip(np.where(cosines < BORDER, below, above), 0.0, 1.0)

    def titles(self, vectors: np.ndarray, words: Sequence[str]) -> list[tuple[str, float]]:
        """The word that fits each vector best, and its share of the softmax over all words.

        Args:
            vectors: float (N, D), of length 1, as `embed` gives; or means of several.
            words: at least one.
        """
        meant = self._meant(words)
        cosines = _unit(np.asarray(vectors, np.float32)) @ meant.T
        odds = np.exp(self.towers.scale * (cosines - cosines.max(1, keepdims=True)))
        shares = odds / odds.sum(1, keepdims=True)
        best = shares.argmax(1)
        return [(words[at], float(row[at])) for at, row in zip(best, shares, strict=True)]

    def _meant(self, words: Sequence[str]) -> F32:
        """One vector a word, (W, D): the mean of its sentences."""
        from bglora.nets.device import in_halves

        texts = [sentence.format(word) for word in words for sentence in SENTENCES]
        rows = in_halves(
            lambda part: list(self.towers.texts(self.towers.tokens(part)).numpy()), texts, BATCH, where="titles"
        )
        each = _unit(np.stack(rows)).reshape(len(words), len(SENTENCES), -1)
        return _unit(each.mean(1))

    def _vectors(self, ready: Sequence[Any]) -> list[F32]:
        import torch

        return list(self.towers.images(torch.stack(list(ready))).numpy())

    def _width(self) -> int:
        config = self.published.config
        return int(config["embed_dim"] if config else self.published.transformers_config["projection_dim"])


def _unit(vectors: np.ndarray) -> F32:
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-9), np.float32)
