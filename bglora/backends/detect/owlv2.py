"""Characters by words: OWLv2."""

from __future__ import annotations

from bglora.backends.detect.by_words import ByWords

DETECTOR = ByWords("owlv2/1", "Owlv2", "owlv2-base", 0.2)

names_of_weights, identity, create = DETECTOR.names_of_weights, DETECTOR.identity, DETECTOR.create
