"""Films in awkward forms: what can be decoded is decoded, and what was lost is said."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from bglora.errors import UserError
from bglora.film.choice import Rule
from bglora.film.ingestion import Ingestion
from bglora.film.png import write_png
from bglora.film.reader import VideoReader
from bglora.film.video import VideoFile
from tests.film.films import scene, scenes, write_film
from tests.film.test_png import bomb

EVERY = Rule(fps=0, min_per_shot=1, max_per_shot=0, blur_threshold=0)


def facts_of(path: Path) -> dict:
    facts = Ingestion("film", path, None, EVERY, True, lambda *_: None).survey()
    return {**facts, "bytes": path.stat().st_size}


def decoded(path: Path) -> list[np.ndarray]:
    with VideoFile(path, threads=1) as video:
        return [video.picture(frame) for _, frame in video.decode()]


def test_odd_size_is_kept(tmp_path: Path) -> None:
    path = write_film(tmp_path / "odd.mkv", scenes(3, 479, 853), codec="ffv1", pix_fmt="yuv444p")
    assert [picture.shape for picture in decoded(path)] == [(479, 853, 3)] * 3
    assert facts_of(path)["video"]["size"] == [479, 853]


def test_odd_size_with_halved_chroma(tmp_path: Path) -> None:
    path = write_film(tmp_path / "odd.mkv", scenes(2, 479, 853), codec="ffv1")
    assert decoded(path)[0].shape == (479, 853, 3)


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, 3), (270, 3)])
def test_rotated_film_comes_upright(tmp_path: Path, degrees: int, turns: int) -> None:
    pictures = scenes(2)
    path = write_film(tmp_path / "r.mp4", pictures, prepare=lambda stream: stream.set_display_rotation(degrees))
    upright = np.rot90(pictures[0], turns)
    got = decoded(path)[0]
    assert got.shape == upright.shape
    assert np.abs(got.astype(int) - upright).mean() < 6
    assert facts_of(path)["video"]["size"] == list(upright.shape[:2])


def test_mirrored_film_comes_mirrored(tmp_path: Path) -> None:
    pictures = scenes(2)
    path = write_film(tmp_path / "m.mp4", pictures, prepare=lambda stream: stream.set_display_rotation(0, hflip=True))
    assert np.abs(decoded(path)[0].astype(int) - pictures[0][:, ::-1]).mean() < 6


def test_ten_bit_film(tmp_path: Path) -> None:
    pictures = scenes(3)
    path = write_film(tmp_path / "ten.mkv", pictures, pix_fmt="yuv420p10le")
    assert np.abs(decoded(path)[1].astype(int) - pictures[1]).mean() < 6


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "matrix", "color_range"),
    [
        ("a.gif", "gif", "rgb8", "rgb", "full"),
        ("a.avi", "mjpeg", "yuvj420p", "bt601", "full"),
        ("a.mkv", "ffv1", "gray", "bt601", "full"),
        ("b.mkv", "ffv1", "bgr0", "rgb", "full"),
        ("a.mov", "prores_ks", "yuv422p10le", "bt601", "limited"),
        ("a.mpg", "mpeg2video", "yuv420p", "bt601", "limited"),
        ("a.webm", "libvpx", "yuv420p", "bt601", "limited"),
    ],
)
def test_other_codecs_and_pixel_formats(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, matrix: str, color_range: str
) -> None:
    pictures = scenes(4)
    path = write_film(tmp_path / name, pictures, codec=codec, pix_fmt=pix_fmt, options={"b": "4000000"})
    got = decoded(path)
    assert len(got) == 4
    expected = pictures[2].astype(float)
    if pix_fmt == "gray":
        expected = expected @ [0.299, 0.587, 0.114]
        expected = np.repeat(expected[..., None], 3, axis=2)
    assert np.abs(got[2] - expected).mean() < (20 if codec == "gif" else 6)  # a GIF has 256 colors
    facts = facts_of(path)["video"]
    assert (facts["matrix"], facts["range"]) == (matrix, color_range)


def test_variable_rate_keeps_numbers_and_times(tmp_path: Path) -> None:
    times = [0, 40, 80, 500, 540, 1500, 1520, 1560]
    pictures = scenes(len(times))
    path = write_film(tmp_path / "vfr.mkv", pictures, times=times, options={"g": "3", "crf": "10"})
    ingestion = Ingestion("film", path, None, EVERY, True, lambda *_: None)
    facts = ingestion.survey()
    assert facts["count"] == len(times)
    written = list(ingestion.write(tmp_path / "out"))
    assert [frame.number for frame in written] == list(range(len(times)))
    assert [round(frame.time, 2) for frame in written] == [time / 1000 for time in times]


def test_seeking_gives_the_same_frames_as_reading_on(tmp_path: Path) -> None:
    times = [0, 40, 80, 500, 540, 1500, 1520, 1560, 1600, 1700, 1750, 1900]
    path = write_film(tmp_path / "v.mp4", scenes(12), times=times, options={"g": "4", "bf": "2", "crf": "10"})
    whole, facts = decoded(path), facts_of(path)
    assert len(facts["index"]) >= 3
    with VideoReader(path, facts) as reader:
        for first, last in [(9, 11), (5, 6), (0, 2), (7, 7)]:
            got = list(reader.frames(first, last))
            assert [number for number, _ in got] == list(range(first, last + 1))
            assert all((picture == whole[number]).all() for number, picture in got)
        assert [number for number, _ in reader.frames(1, 11, step=5)] == [1, 6, 11]


def test_the_main_stream_is_taken_and_cover_art_is_not(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = []
        for height, width in [(64, 96), (128, 192)]:
            stream = container.add_stream("libx264", rate=24)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        audio = container.add_stream("aac", rate=44100)
        for number in range(6):
            for stream in streams:
                picture = scene(number, stream.height, stream.width)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.rate = 44100
        container.mux(audio.encode(sound))
        for stream in [*streams, audio]:
            container.mux(stream.encode())
    facts = facts_of(path)
    assert facts["count"] == 6
    assert facts["video"]["streams"] == 2


def test_a_single_frame_is_a_film(tmp_path: Path) -> None:
    facts = facts_of(write_film(tmp_path / "one.mp4", scenes(1)))
    assert facts["count"] == 1
    assert [(shot["first"], shot["last"]) for shot in facts["shots"]] == [(0, 0)]


def test_truncated_film_gives_what_is_there_and_says_what_is_lost(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    noisy = [rng.integers(0, 255, (96, 160, 3), np.uint8) for _ in range(40)]
    path = write_film(tmp_path / "whole.mp4", noisy, options={"g": "10"}, container_options={"movflags": "faststart"})
    content = path.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: len(content) // 2])
    facts = facts_of(cut)
    assert 5 < facts["count"] < 40
    assert facts["video"]["lost"][-1]["after"] == facts["count"] - 1
    assert "40" in facts["video"]["lost"][-1]["why"]


def test_damaged_middle_is_skipped_and_the_same_every_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    noisy = [rng.integers(0, 255, (96, 160, 3), np.uint8) for _ in range(40)]
    path = write_film(tmp_path / "whole.mkv", noisy, options={"g": "8"})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 6000] = rng.integers(0, 255, 6000, np.uint8).tobytes()
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(bytes(content))
    facts = facts_of(broken)
    assert 20 < facts["count"] <= 40
    assert facts == facts_of(broken)
    with VideoReader(broken, facts) as one, VideoReader(broken, facts) as other:
        last = facts["count"] - 1
        pairs = zip(one.frames(last - 3, last), other.frames(last - 3, last), strict=True)
        assert all(a[0] == b[0] and (a[1] == b[1]).all() for a, b in pairs)


def test_damaged_frames_are_noted_and_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    noisy = [np.clip(p + rng.integers(-30, 30, p.shape), 0, 255).astype(np.uint8) for p in scenes(48, 288, 512)]
    path = write_film(tmp_path / "whole.mp4", noisy, options={"g": "12", "crf": "20"})
    whole, content = decoded(path), bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = rng.integers(0, 255, 3000, np.uint8).tobytes()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(bytes(content))
    facts = facts_of(broken)
    assert 40 < facts["count"] <= 48
    assert facts["failed"]
    assert facts["video"]["lost"]
    with VideoReader(broken, facts) as reader:
        given = list(reader.frames(0, facts["count"] - 1))
    good = [number for number in range(facts["count"]) if number not in facts["failed"]]
    assert [number for number, _ in given] == good
    sound = {picture.tobytes() for picture in whole}
    assert all(picture.tobytes() in sound for _, picture in given)


def test_skipped_time_stamps_are_said(tmp_path: Path) -> None:
    times = [40 * n for n in range(20)] + [40 * n for n in range(29, 50)]
    path = write_film(tmp_path / "gap.mkv", scenes(len(times)), times=times)
    (loss,) = facts_of(path)["video"]["lost"]
    assert loss["after"] == 19
    assert "9 frames" in loss["why"]


def test_sound_alone_is_no_film(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(UserError) as error:
        VideoFile(path)
    assert "no video stream" in error.value.what
    assert str(path) in error.value.where


def test_text_named_mp4_is_no_film(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_text("This is a letter, not a film.\n" * 50)
    with pytest.raises(UserError, match="no film that can be read"):
        VideoFile(path)


def test_empty_file_is_no_film(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"")
    with pytest.raises(UserError, match="no film that can be read"):
        VideoFile(path)


def test_a_bomb_given_as_a_film_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Not one whole frame"):
        facts_of(bomb(tmp_path / "bomb.png"))
    good = tmp_path / "good.png"
    write_png(good, scene(0))
    assert facts_of(good)["count"] == 1


def test_missing_film_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        VideoFile(tmp_path / "gone.mp4")
    assert error.value.where.endswith("gone.mp4")


def test_a_film_that_changed_or_vanished_is_noticed(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", scenes(6))
    facts = facts_of(path)
    write_film(path, scenes(9, seed=3))
    with pytest.raises(UserError, match="changed since it was ingested"):
        VideoReader(path, facts)
    path.unlink()
    with pytest.raises(UserError, match="not where it was"):
        VideoReader(path, facts)
