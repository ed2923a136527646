"""Taking in one source: survey all frames, find the shots, write the frames that are kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bglora.errors import UserError
from bglora.film.bars import BarWatch
from bglora.film.choice import Choice, Rule, choose
from bglora.film.png import write_png
from bglora.film.reader import FolderReader, FrameReader, VideoReader
from bglora.film.shots import Shot, find_shots
from bglora.film.survey import Survey, working_size

FOLDER_FPS = 24.0
"""A folder of frames has no rate; films have 24 frames per second."""

BARS_EVERY = 6
"""Frames from one look for letterbox bars to the next."""

Progress = Callable[[float, float, str], None]


@dataclass(frozen=True)
class WrittenFrame:
    """One kept frame.

    Attributes:
        shot: name of its shot.
        number: in the source, from 0.
        time: seconds from the source's first frame.
        size: (height, width) as written.
        sharpness: variance of the Laplacian at the working size.
        problem: why it could not be read; then nothing was written.
    """

    shot: str
    number: int
    time: float
    size: tuple[int, int]
    sharpness: float
    problem: str = ""


class Ingestion:
    """`survey` once, then `write`."""

    def __init__(
        self,
        name: str,
        path: Path,
        names: Sequence[str] | None,
        rule: Rule,
        crop_bars: bool,
        progress: Progress,
        layered: Collection[int] = (),
    ) -> None:
        """
        Args:
            name: of the source.
            path: a video file, or a folder.
            names: pictures of the folder relative to `path`, in order; None for a video.
            rule: which frames are kept.
            crop_bars: find letterbox bars and crop them.
            progress: told (done, total, text) as the work goes on.
            layered: numbers of frames that an earlier segmentation left layers of; they are kept rather than others.
        """
        self.name, self.path, self.names = name, path, names
        self._rule, self._crop_bars, self._progress = rule, crop_bars, progress
        self._layered = frozenset(layered)
        self._survey, self._bars = Survey(), BarWatch()
        self._shots: list[Shot] = []
        self._choices: list[Choice] = []
        self._problems: dict[int, str] = {}

    def survey(self) -> dict[str, Any]:
        """Looks at every frame once.

        Returns:
            What `film/reader.py` needs (`count`, `names`, `failed`, `index`, `video`), `kind` left out, and `shots`.
        Raises:
            UserError: nothing in it can be decoded.
        """
        facts = self._survey_video() if self.names is None else self._survey_folder()
        survey = self._survey
        if len(survey) == len(survey.failed):
            raise UserError(
                "Not one whole frame can be decoded.",
                where=str(self.path),
                cure="replace the file by a whole copy, or take it off [sources] films",
            )
        crop = self._bars.bars() if self._crop_bars and not survey.breaks else (0, 0, 0, 0)
        facts["video"]["crop"] = list(crop)
        facts["count"] = facts["video"]["count"] = len(survey)
        shots = find_shots(survey)
        self._choices = [choose(shot, survey, self._rule, self._layered) for shot in shots]
        self._shots = [choice.noted_in(shot) for shot, choice in zip(shots, self._choices, strict=True)]
        facts["shots"] = [
            {
                "name": self.shot_name(place),
                "source": self.name,
                "first": shot.first,
                "last": shot.last,
                "begins_by": shot.begins_by,
                "left_out": [part.to_json() for part in shot.left_out],
            }
            for place, shot in enumerate(self._shots)
        ]
        self._facts = facts
        return facts

    def shot_name(self, place: int) -> str:
        """`harbor-s003` for place 3."""
        return f"{self.name}-s{place:03d}"

    def kept(self) -> list[str]:
        """Names of the frames that are kept, and of those that could not be read; after `survey`."""
        return [f"{self.shot_name(place)}/{number:06d}" for place, number in self._kept()]

    def write(self, folder: Path, only: frozenset[str] | None = None) -> Iterator[WrittenFrame]:
        """Writes the kept frames to `folder/<shot>/<FFFFFF>.png`, cropped.

        Args:
            folder: where.
            only: names to restrict it to; None for all.
        """
        shot_of = {
            number: place
            for place, number in self._kept()
            if only is None or f"{self.shot_name(place)}/{number:06d}" in only
        }
        for number, problem in self._problems.items():
            if number in shot_of:
                yield WrittenFrame(
                    self.shot_name(shot_of[number]), number, self._survey.times[number], (0, 0), 0.0, problem
                )
        wanted = [number for number in shot_of if number not in self._problems]
        with self._reader() as reader:
            for done, (number, picture) in enumerate(reader.pick(wanted), start=1):
                name = self.shot_name(shot_of[number])
                write_png(folder / name / f"{number:06d}.png", picture)
                self._progress(len(self._survey) + done, len(self._survey) + len(wanted), "writing frames")
                height, width = picture.shape[:2]
                yield WrittenFrame(
                    name, number, self._survey.times[number], (height, width), self._survey.sharpness[number]
                )

    def _kept(self) -> list[tuple[int, int]]:
        """(place of the shot, frame number), ascending; frames that could not be read are among them."""
        kept: list[tuple[int, int]] = []
        for place, (shot, choice) in enumerate(zip(self._shots, self._choices, strict=True)):
            failed = [number for number in self._problems if shot.first <= number <= shot.last]
            kept += [(place, number) for number in sorted([*choice.kept, *failed])]
        return kept

    def _reader(self) -> FrameReader:
        facts: Mapping[str, Any] = self._facts
        if self.names is None:
            return VideoReader(self.path, {**facts, "bytes": self.path.stat().st_size})
        return FolderReader(self.path, facts)

    def _survey_video(self) -> dict[str, Any]:
        from bglora.film.video import VideoFile

        with VideoFile(self.path) as video:
            facts = self._survey_frames(video)
            if not video.harmed:
                return facts
        self._survey, self._bars = Survey(), BarWatch()
        with VideoFile(self.path, threads=1) as video:  # damaged: again, with a result that does not depend on timing
            return self._survey_frames(video)

    def _survey_frames(self, video: Any) -> dict[str, Any]:
        total = max(1, video.announced)
        index: list[list[int]] = []
        start: float | None = None
        size = (0, 0)
        for number, frame in video.decode():
            if number == 0:
                size = working_size(*video.size)
            if frame.key_frame and frame.pts is not None:
                index.append([number, frame.pts])
            moment = frame.time if frame.time is not None else number / video.fps
            start = moment if start is None else start
            self._survey.add(video.grey(frame, size), moment - start)
            if number % BARS_EVERY == 0:
                self._bars.add(video.grey(frame, video.size))
            self._progress(number + 1, max(total, number + 1) * 1.2, "looking at frames")
        if any(later[1] <= earlier[1] for earlier, later in zip(index, index[1:], strict=False)) or video.harmed:
            index = []
        self._survey.failed.update(video.damaged)
        video.note_gaps(self._survey.times)
        video.note_early_end(len(self._survey))
        return {"kind": "video", "index": index, "failed": sorted(video.damaged), "video": _video_facts(video)}

    def _survey_folder(self) -> dict[str, Any]:
        import cv2

        from bglora.film.png import read_picture

        assert self.names is not None
        size: tuple[int, int] | None = None
        for number, name in enumerate(self.names):
            time = number / FOLDER_FPS
            try:
                picture = read_picture(self.path / name)
            except UserError as error:
                self._problems[number] = f"{error.what} ({name})"
                self._survey.add_failed(time)
                continue
            size = size or picture.shape[:2]
            height, width = working_size(*picture.shape[:2])
            grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
            if number % BARS_EVERY == 0:
                self._bars.add(grey)
            self._survey.add(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), time)
            self._progress(number + 1, len(self.names) * 1.2, "looking at pictures")
        return {
            "names": list(self.names),
            "failed": sorted(self._problems),
            "video": {
                "fps": FOLDER_FPS,
                "size": list(size or (0, 0)),
                "codec": "pictures",
                "matrix": "rgb",
                "range": "full",
                "tagged": "both",
                "lost": [],
            },
        }


def _video_facts(video: Any) -> dict[str, Any]:
    return {
        "fps": round(video.fps, 4),
        "size": list(video.size),
        "codec": video.codec,
        "matrix": video.colors.matrix,
        "range": video.colors.range,
        "tagged": video.colors.tagged,
        "turned": video.orientation.turns * 90,
        "mirrored": video.orientation.mirrored,
        "pixel_aspect": round(video.pixel_aspect, 4),
        "interlaced": video.interlaced,
        "streams": video.streams,
        "announced": video.announced,
        "lost": [loss.to_json() for loss in video.losses],
    }
