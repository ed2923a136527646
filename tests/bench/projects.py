"""What benchmarks of the pipeline share: the sample film, its truth and scorer, projects run up to a stage."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

import av
import cv2
import numpy as np

import bglora
from tests.shared import ROOT as SHARED

FILM = SHARED / "films" / "harbor" / "harbor.mp4"
TRUTH = SHARED / "films" / "harbor" / "truth"
ALL_FRAMES = ("ingest.fps=0", "ingest.max_per_shot=0")


def scorer() -> ModuleType:
    """The scorer as a module; it is no package."""
    spec = importlib.util.spec_from_file_location("score_film", SHARED / "films" / "score_film.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made(
    root: Path, films: Iterable[Path], layers: Iterable[Path], to: str, *given: str, jobs: int = 0
) -> bglora.Project:
    """A project run up to a stage.

    Args:
        given: settings as `--set` takes them. jobs: processes; 0 for as many as there are cores.
    """
    project = bglora.open(bglora.init(root, films=list(films), layers=list(layers)).root, given=given, jobs=jobs)
    result = project.run(to=to)
    assert result.exit_code == 0, result.failures
    return project


def frames_of(film: Path, folder: Path, holes: Mapping[int, str] | None = None) -> Path:
    """Writes every frame of a film as a PNG named by its number, black where `holes` (mask files) says."""
    folder.mkdir(parents=True)
    with av.open(str(film)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            picture = frame.to_ndarray(format="bgr24")
            if holes is not None and number in holes:
                picture[cv2.imread(holes[number], cv2.IMREAD_GRAYSCALE) > 0] = 0
            cv2.imwrite(str(folder / f"{number:06d}.png"), picture)
    return folder


def film_in(folder: Path) -> tuple[Path, Path]:
    """The film and the truth that films/make_films.py put into a folder."""
    truth = folder / "truth"
    return folder / json.loads((truth / "truth.json").read_text("utf-8"))["file"], truth


def true_shots() -> list[dict]:
    """The shots of the sample film's truth."""
    shots: list[dict] = json.loads((TRUTH / "truth.json").read_text("utf-8"))["shots"]
    return shots


def true_holes() -> dict[int, str]:
    """Frame number to the mask of its characters; frames without any are left out."""
    return {
        shot["first"] + number: str(TRUTH / name)
        for shot in true_shots()
        for number, name in enumerate(shot["objects"] or [])
        if name
    }


def true_layers(film: Path, truth_folder: Path, folder: Path) -> Path:
    """A film as layers of a perfect earlier segmentation: backgrounds with holes, masks of 0, 128 and 255."""
    for part in ("background", "masks"):
        (folder / part).mkdir(parents=True)
    truth = scorer().Truth(str(truth_folder))
    with av.open(str(film)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            mask = np.where(truth.mask(number, "objects"), 255, np.where(truth.mask(number, "effects"), 128, 0))
            clear = np.where(mask > 0, 0, 255).astype(np.uint8)
            picture = np.dstack([frame.to_ndarray(format="bgr24"), clear])
            picture[clear == 0] = 0
            cv2.imwrite(str(folder / "background" / f"{number:06d}.png"), picture)
            cv2.imwrite(str(folder / "masks" / f"{number:06d}.png"), mask.astype(np.uint8))
    return folder


def encode(frames: Iterable[np.ndarray], path: Path, crf: int, fps: int = 24, preset: str = "medium") -> Path:
    """Writes uint8 BGR frames (H, W, 3) as H.264 in 4:2:0 with the color tags of standard definition."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = None
        for picture in frames:
            if stream is None:
                stream = out.add_stream("libx264", rate=fps)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.options = {"crf": str(crf), "preset": preset, "threads": "1"}
                context = stream.codec_context
                context.colorspace, context.color_range, context.color_primaries, context.color_trc = 6, 1, 6, 6
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="bgr24")
            frame = frame.reformat(format="yuv420p", src_colorspace="ITU601", dst_colorspace="ITU601")
            out.mux(stream.encode(frame))
        assert stream is not None
        out.mux(stream.encode())
    return path
