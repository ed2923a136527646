"""Frames of a source on demand, as `ingest` saw them: same numbers, same crop, same colors.

`open_source(project_root, remark)` needs only what `ingest` recorded of the source (`remark`):

    kind    "video", "folder" or "layers"
    path    of the file or folder, relative to the project or absolute
    bytes   size of the file, or of all pictures together: a source that changed is noticed
    count   number of frames
    names   folder, layers: pictures relative to `path`, the frame number is the place in this list
    failed  numbers of pictures that cannot be read, or of damaged frames; they are skipped
    index   video: [number, pts] of key frames that decoding may start from; empty where the file can't be searched
    video   {"size": [height, width] before cropping, "crop": [top, bottom, left, right], "lost": […], …}
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bglora.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from bglora.film.video import VideoFile


class FrameReader(ABC):
    """Reads frames of one source; use as a context manager or call `close`."""

    def __init__(self, path: Path, remark: Mapping[str, Any]) -> None:
        self.path = path
        self.count = int(remark["count"])
        """Frames of the source."""
        self.failed = frozenset(remark.get("failed", ()))
        """Numbers of frames that are left out because they cannot be read or are damaged."""
        self.crop = tuple(remark["video"]["crop"])
        """Rows and columns cut off: (top, bottom, left, right)."""

    @abstractmethod
    def pick(self, numbers: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        """(number, uint8 RGB (H, W, 3)) of the frames with these ascending numbers, cropped.

        One pass forward; key frames are jumped to where that saves decoding. Pictures that cannot be read are left out.

        Raises:
            UserError: the source is gone or is not the one that `ingest` saw.
        """

    def frames(self, first: int, last: int, step: int = 1) -> Iterator[tuple[int, np.ndarray]]:
        """Frames `first` to `last` inclusive, every `step`-th; as `pick`."""
        return self.pick(range(first, last + 1, step))

    @abstractmethod
    def close(self) -> None:
        """Lets go of the file."""

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cropped(self, picture: np.ndarray) -> np.ndarray:
        import numpy as np

        top, bottom, left, right = self.crop
        height, width = picture.shape[:2]
        return np.ascontiguousarray(picture[top : height - bottom, left : width - right])


class VideoReader(FrameReader):
    """Frames of a video file."""

    def __init__(self, path: Path, remark: Mapping[str, Any]) -> None:
        super().__init__(path, remark)
        self._check(remark)
        self._index = [tuple(entry) for entry in remark.get("index", ())]
        self._numbers = [number for number, _ in self._index]
        self._size = tuple(remark["video"]["size"])
        # Frame threads and damaged data give results that depend on timing.
        self._threads = 1 if remark["video"].get("lost") else 2
        self._video: VideoFile | None = None

    def close(self) -> None:
        if self._video is not None:
            self._video.close()
            self._video = None

    def pick(self, numbers: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        wanted = [number for number in numbers if number not in self.failed]
        place = 0
        while place < len(wanted):
            for number, picture in self._run(wanted[place], wanted[place:]):
                yield number, picture
                place += 1
                if place < len(wanted) and self._key(wanted[place]) > number + 1:
                    break
            else:
                if place < len(wanted):
                    raise self._changed(f"frame {wanted[place]} is not there any more")

    def _run(self, first: int, wanted: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        remaining = iter(wanted)
        following = next(remaining)
        for number, frame in self._decode_from(self._key(first)):
            if number < following:
                continue
            video = self._video
            assert video is not None
            if video.size != self._size:
                raise self._changed(
                    f"its frames are {video.size[1]} x {video.size[0]}, not {self._size[1]} x {self._size[0]}"
                )
            yield number, self._cropped(video.picture(frame))
            found = next(remaining, None)
            if found is None:
                return
            following = found

    def _decode_from(self, key: int) -> Iterator[tuple[int, Any]]:
        """Decodes from a key frame; where the container cannot find it again, from the beginning."""
        if key > 0:
            try:
                yield from self._open().decode(self._index[self._numbers.index(key)])  # type: ignore[arg-type]
                return
            except LookupError:
                self._index, self._numbers = [], []  # the container finds no key frame by its time stamp
        yield from self._open().decode()

    def _open(self) -> VideoFile:
        from bglora.film.video import VideoFile

        self.close()
        self._video = VideoFile(self.path, threads=self._threads)
        return self._video

    def _key(self, number: int) -> int:
        """The last key frame that decoding may start from to reach a frame; 0 is the beginning."""
        place = bisect_right(self._numbers, number)
        return self._numbers[place - 1] if place else 0

    def _check(self, remark: Mapping[str, Any]) -> None:
        if not self.path.is_file():
            raise UserError(
                "The film is not where it was.", where=str(self.path), cure="put it back, or run: bglora ingest"
            )
        if self.path.stat().st_size != remark["bytes"]:
            raise self._changed("its size is another")

    def _changed(self, how: str) -> UserError:
        return UserError(
            f"The film changed since it was ingested: {how}.", where=str(self.path), cure="run: bglora ingest"
        )


class FolderReader(FrameReader):
    """Frames of a folder of pictures."""

    def __init__(self, path: Path, remark: Mapping[str, Any]) -> None:
        super().__init__(path, remark)
        self._names: list[str] = list(remark["names"])
        if not path.is_dir():
            raise UserError(
                "The folder of frames is not where it was.", where=str(path), cure="put it back, or run: bglora ingest"
            )

    def close(self) -> None:
        """Nothing is held open between two pictures."""

    def pick(self, numbers: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        from bglora.film.png import read_picture

        for number in numbers:
            if number in self.failed:
                continue
            path = self.path / self._names[number]
            if not path.is_file():
                raise UserError(
                    "A picture of the source is gone since it was ingested.",
                    where=str(path),
                    cure="put it back, or run: bglora ingest",
                )
            yield number, self._cropped(read_picture(path))


def open_source(root: Path, remark: Mapping[str, Any]) -> FrameReader:
    """A reader of the source that a remark of `ingest` describes.

    Args:
        root: the project folder; a relative path in the remark starts there.
        remark: what `ingest` recorded of the source.
    Raises:
        UserError: the source is gone or changed.
    """
    path = root / remark["path"]
    return VideoReader(path, remark) if remark["kind"] == "video" else FolderReader(path, remark)
