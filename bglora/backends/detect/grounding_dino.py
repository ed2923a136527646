"""Characters by words: Grounding DINO."""

from __future__ import annotations

from bglora.backends.detect.by_words import ByWords

DETECTOR = ByWords("grounding_dino/1", "GroundingDino", "grounding-dino-base", 0.3)

names_of_weights, identity, create = DETECTOR.names_of_weights, DETECTOR.identity, DETECTOR.create
