"""Video files through FFmpeg (PyAV): frames in decoded order, in the stream's own colors.

A frame's number is its place among the frames that the decoder gives, from 0. Colors follow the stream's tags; where
there are none, BT.709 from 720 rows on and BT.601 below, limited range, as players do. FFmpeg's scaler needs accurate
rounding and full chroma interpolation to stay within 2 grey levels of the definition; its default is up to 31 off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from bglora.errors import UserError
from bglora.film.orientation import Orientation, orientation
from bglora.film.png import MAX_PIXELS

if TYPE_CHECKING:
    import numpy as np

_LONGEST_DOUBT = 250  # frames; encoders set a key frame at least that often
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_SWS = {"bt709": 1, "fcc": 4, "bt601": 5, "smpte240m": 7, "bt2020": 9}
_EXACT = (
    Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)


@dataclass(frozen=True)
class Colors:
    """How the stream's values become RGB.

    Attributes:
        matrix: `bt601`, `bt709`, `bt2020`, `fcc`, `smpte240m`, or `rgb` where there is nothing to convert.
        range: `limited` or `full`.
        tagged: `both`, `matrix`, `range` or `none`: which of them the stream says; the others are the rule.
    """

    matrix: str
    range: str
    tagged: str


@dataclass
class Loss:
    """What could not be decoded: packets between two frames, parts of a frame, or the end of the file."""

    after: int
    """Number of the last frame that was given when it happened, or of the damaged frame itself; -1 at the start."""
    why: str
    times: int = 1
    """How often in a row."""

    def to_json(self) -> dict[str, Any]:
        return {"after": self.after, "why": self.why, "times": self.times}


@dataclass
class VideoFile:
    """An opened video file. Frames come from `decode`; `picture` and `grey` turn one into an array.

    Raises:
        UserError: not there, not a video, or nothing that can be decoded.
    """

    path: Path
    threads: int = 0
    """0: as many as FFmpeg likes. 1 also makes the result of damaged data independent of timing."""
    losses: list[Loss] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    """Numbers of frames that the decoder made up in part, and of those that build on them."""

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise UserError("There is no such film.", where=str(self.path), cure="check the path in [sources] films")
        try:
            self._container = av.open(str(self.path), metadata_errors="replace")
        except (av.error.FFmpegError, OSError) as error:
            raise _no_video(self.path, f"FFmpeg says: {_reason(error)}") from None
        pictures = av.stream.Disposition.attached_pic
        streams = [stream for stream in self._container.streams.video if not stream.disposition & pictures]
        if not streams:
            self._container.close()
            raise _no_video(self.path, "it has no video stream")
        best = self._container.streams.best("video")
        self._stream = best if best in streams else streams[0]
        self.streams = len(streams)
        context = self._stream.codec_context
        context.options = {"max_pixels": str(MAX_PIXELS)}
        context.thread_type = "AUTO" if self.threads != 1 else "NONE"
        context.thread_count = self.threads
        self._reformat = VideoReformatter()
        self._shrink: dict[tuple[int, int], VideoReformatter] = {}  # each keeps the scaler for its size
        self._first: av.VideoFrame | None = None
        self._number, self._doubtful = -1, 0
        self.harmed = False
        """True once some data could not be decoded: then timing and seeking cannot be relied on."""
        self.colors = Colors("bt601", "limited", "none")
        self.orientation = Orientation()
        self.interlaced = False
        self.coded_size = (context.height, context.width)

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def codec(self) -> str:
        return str(self._stream.codec_context.codec.name)

    @property
    def fps(self) -> float:
        """Mean frames per second by the container; 24 where it doesn't say."""
        rate = self._stream.average_rate or self._stream.base_rate or Fraction(24)
        return float(rate)

    @property
    def announced(self) -> int:
        """Frames by the container's word or by duration and rate; 0 if unknown. For progress only."""
        if self._stream.frames:
            return int(self._stream.frames)
        if self._container.duration:
            return round(self._container.duration / av.time_base * self.fps)
        return 0

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel over its height; 1 for square pixels and where nothing is said."""
        aspect = self._stream.sample_aspect_ratio
        return float(aspect) if aspect else 1.0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the pictures, upright; known when the first frame is decoded."""
        return self.orientation.size(self.coded_size)

    def decode(self, start: tuple[int, int] | None = None) -> Iterator[tuple[int, av.VideoFrame]]:
        """Frames with their numbers, to the end of the file; damaged packets are skipped and noted in `losses`.

        Args:
            start: a key frame's (number, pts) to begin at; None for the beginning. The first frame given is that one.
        Raises:
            LookupError: the file has no frame at `start`, or its container cannot be searched.
        """
        number = 0
        if start is not None:
            number = start[0]
            try:
                self._container.seek(start[1], stream=self._stream, backward=True, any_frame=False)
            except (av.error.FFmpegError, OSError) as error:
                raise LookupError(f"the container cannot be searched: {_reason(error)}") from error
        for frame in self._raw_frames():
            if start is not None:
                if frame.pts is None or frame.pts < start[1]:
                    continue
                if frame.pts > start[1]:
                    raise LookupError(f"no frame at pts {start[1]}")
                start = None
            if self._first is None:
                self._learn(frame)
            self._number = number
            self._watch(frame)
            yield number, frame
            number += 1

    def picture(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 RGB (H, W, 3), upright, within 2 grey levels of the definition of the stream's matrix and range."""
        import numpy as np

        height, width = self.coded_size
        rgb = self._reformat.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=_EXACT, threads=1, **self._conversion()
        )
        return np.ascontiguousarray(self.orientation.apply(rgb.to_ndarray()))

    def grey(self, frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
        """uint8 full-range luma, upright, shrunk to (height, width) by averaging areas."""
        import numpy as np

        height, width = self.orientation.size(size)  # turned by 90 degrees the coded picture has the sides swapped
        conversion = {key: value for key, value in self._conversion().items() if "range" in key}
        shrink = self._shrink.setdefault(size, VideoReformatter())
        shrunk = shrink.reformat(
            frame, width=width, height=height, format="gray", interpolation=Interpolation.AREA, threads=1, **conversion
        )
        return np.ascontiguousarray(self.orientation.apply(shrunk.to_ndarray()))

    def _conversion(self) -> dict[str, Any]:
        full = self.colors.range == "full"
        if self.colors.matrix == "rgb":
            return {}
        matrix = _SWS[self.colors.matrix]
        return {
            "src_colorspace": matrix,
            "dst_colorspace": matrix,
            "src_color_range": ColorRange.JPEG if full else ColorRange.MPEG,
            "dst_color_range": ColorRange.JPEG,
        }

    def _learn(self, frame: av.VideoFrame) -> None:
        self._first = frame
        self.coded_size = (frame.height, frame.width)
        self.colors = _colors(frame)
        self.orientation = orientation(frame)
        self.interlaced = bool(frame.interlaced_frame)

    def _raw_frames(self) -> Iterator[av.VideoFrame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, OSError) as error:
                self._harm(_reason(error))
                return
            try:
                frames = packet.decode()
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, OSError) as error:
                self._harm(_reason(error))
                continue
            yield from frames

    def _watch(self, frame: av.VideoFrame) -> None:
        """After damage, frames are doubtful up to the next key frame that is whole."""
        if frame.is_corrupt:
            self._harm("the data of this frame and those that build on it is damaged")
        elif frame.key_frame:
            self._doubtful = 0
        if self._doubtful:
            self._doubtful -= 1
            self.damaged.append(self._number)

    def note_gaps(self, times: Sequence[float]) -> None:
        """Notes a loss where the time stamps (s) of a film of constant rate skip frames."""
        import numpy as np

        steps = np.diff(np.asarray(times))
        usual = float(np.median(steps)) if len(steps) else 0.0
        if usual <= 0 or (np.abs(steps - usual) <= 0.2 * usual).mean() < 0.9:
            return
        for place in np.flatnonzero(steps > 2.5 * usual):
            self._number = int(place)
            self._lose(f"the time stamps skip about {round(float(steps[place]) / usual) - 1} frames")

    def note_early_end(self, count: int) -> None:
        """Notes a loss if a file that was read to its end has clearly fewer frames than its container announces."""
        announced = int(self._stream.frames)
        if announced - count > max(2, 0.02 * announced):
            self._number = count - 1
            self._lose(f"the file ends early: {count} of {announced} frames are there")

    def _harm(self, why: str) -> None:
        self._lose(why)
        self.harmed, self._doubtful = True, _LONGEST_DOUBT

    def _lose(self, why: str) -> None:
        if self.losses and self.losses[-1].after == self._number and self.losses[-1].why == why:
            self.losses[-1].times += 1
        else:
            self.losses.append(Loss(self._number, why))


def _colors(frame: av.VideoFrame) -> Colors:
    if frame.format.is_rgb or frame.format.has_palette:
        return Colors("rgb", "full", "both")
    if frame.format.name.startswith("gray"):
        return Colors("bt601", "full" if frame.color_range != ColorRange.MPEG else "limited", "range")
    matrix = _MATRICES.get(int(frame.colorspace))
    known_range = {1: "limited", 2: "full"}.get(int(frame.color_range))
    if known_range is None and frame.format.name.startswith("yuvj"):
        known_range = "full"
    tagged = {(True, True): "both", (True, False): "matrix", (False, True): "range", (False, False): "none"}
    return Colors(
        matrix or ("bt709" if frame.height >= 720 else "bt601"),
        known_range or "limited",
        tagged[matrix is not None, known_range is not None],
    )


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()


def _no_video(path: Path, why: str) -> UserError:
    return UserError(
        f"The file is no film that can be read: {why}.",
        where=str(path),
        cure="replace it by a complete copy, or take it off [sources] films",
    )
