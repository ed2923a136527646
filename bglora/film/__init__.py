"""Films: decoding, color, shots, the choice of frames."""

from bglora.film.reader import FrameReader, open_source

__all__ = ["FrameReader", "open_source"]
