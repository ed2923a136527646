"""What segment writes: masks, cut-outs by track, what it samples of a shot, and what it drops."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bglora.film.png import read_grey, read_picture, read_rgba
from bglora.stages.shotframes import groups, source_of_shot, usable
from tests.stages.drawn_project import project_of, records
from tests.vision import drawn


def test_kept_frames_are_filled_up_evenly_with_others() -> None:
    (numbers,) = groups([10, 50], range(0, 100), 10)
    assert len(numbers) == 10 and {10, 50} <= set(numbers)
    assert max(b - a for a, b in zip(numbers, numbers[1:], strict=False)) <= 25


def test_a_long_shot_is_gone_through_in_interleaved_groups_of_bounded_size() -> None:
    kept = list(range(0, 2000))
    found = groups(kept, [], 32)
    assert sorted(n for group in found for n in group) == kept
    assert max(len(group) for group in found) <= 32
    assert all(group[-1] - group[0] > 1850 for group in found)


def test_frames_that_were_left_out_are_not_looked_at() -> None:
    assert usable(3, 9, [{"first": 5, "last": 7}]) == [3, 4, 8, 9]


def test_masks_cutouts_and_record_of_a_shot(tmp_path: Path) -> None:
    shot = drawn.shot(51, 10)
    project = project_of(tmp_path, shot.frames, "segment.background=true")
    project.run("ingest", "segment")
    lines = records(project, "segmented/segmented.jsonl")
    assert len(lines) == 10
    tracks = {tuple(line["record"]["tracks"]) for line in lines.values()}
    assert tracks == {(1,)}, "one figure is one track through the shot"
    mask = read_grey(project.root / "segmented/masks/drawn-s000/000005.png")
    assert set(np.unique(mask)) == {0, 128, 255}
    behind = read_rgba(project.root / "segmented/background/drawn-s000/000005.png")
    assert np.array_equal(behind[..., 3] == 0, mask > 0)
    cut = read_rgba(project.root / "segmented/character/drawn-s000/000005_1.png")
    solid = cut[..., 3] > 250
    assert abs(int(solid.sum()) - int(shot.objects[5].sum())) < 0.15 * shot.objects[5].sum()
    color = shot.frames[5][shot.objects[5]].mean(0)
    rim = (cut[..., 3] > 0) & ~solid
    assert rim.any() and np.abs(cut[rim][:, :3].mean(0) - color).max() < 30, "no background shines through the edge"


def test_sampled_frames_are_stored_with_their_masks_when_few_are_kept(tmp_path: Path) -> None:
    shot = drawn.shot(52, 16)
    project = project_of(tmp_path, shot.frames, "ingest.max_per_shot=3", "segment.samples=12")
    project.run("ingest", "segment", "inpaint")
    kept = sorted(int(p.stem) for p in (project.root / "frames/drawn-s000").glob("*.png"))
    with np.load(project.root / "segmented/sampled/drawn-s000.npz") as stored:
        numbers = stored["numbers_0"].tolist()
        assert len(numbers) == 12 and set(kept) <= set(numbers)
        assert set(stored["others_0"].tolist()) == set(numbers) - set(kept)
    assert sorted(int(p.stem) for p in (project.root / "plates/drawn-s000").glob("*.png")) == kept


def test_a_kept_frame_of_a_shot_that_can_not_be_trusted_is_one_in_which_nobody_is(tmp_path: Path) -> None:
    shot = drawn.shot(53, 2)
    project = project_of(tmp_path, shot.frames, "segment.background=true")
    project.run("ingest", "segment")
    lines = records(project, "segmented/segmented.jsonl")
    assert {line["status"] for line in lines.values()} == {"dropped"}
    project.keep("drawn-s000/000001")
    project.run("segment", "inpaint")
    lines = records(project, "segmented/segmented.jsonl")
    assert lines["drawn-s000/000000"]["status"] == "dropped"
    kept = lines["drawn-s000/000001"]
    assert (kept["status"], kept["reason"]) == ("made", "kept by you")
    assert not read_grey(project.root / "segmented/masks/drawn-s000/000001.png").any()
    (plate,) = (project.root / "plates").glob("*/*.png")
    assert plate.stem == "000001"
    assert np.array_equal(read_picture(plate), shot.frames[1])


def test_a_kept_frame_of_a_trusted_shot_has_the_mask_that_it_had(tmp_path: Path) -> None:
    project = project_of(tmp_path, drawn.shot(51, 10).frames)
    project.run("ingest", "segment")
    path = project.root / "segmented/masks/drawn-s000/000005.png"
    before, sampled = path.read_bytes(), (project.root / "segmented/sampled/drawn-s000.npz").read_bytes()
    project.keep("drawn-s000/000005")
    project.run("segment")
    assert path.read_bytes() == before
    assert (project.root / "segmented/sampled/drawn-s000.npz").read_bytes() == sampled
    assert {line["reason"] for line in records(project, "segmented/segmented.jsonl").values()} == {""}


def test_an_item_carries_its_own_part_of_a_long_film() -> None:
    layers = [{"frame": number, "background": f"{number}.png", "mask": "", "characters": []} for number in range(9)]
    shots = [{"name": f"film-s{k:03d}", "first": k, "last": k, "left_out": []} for k in range(9)]
    remark = {"path": "film.mp4", "count": 9, "shots": shots, "layers": {"root": "given", "frames": layers}}
    assert source_of_shot(remark) == {"path": "film.mp4", "count": 9}
    own = source_of_shot(remark, layers[3:5])
    assert own == {"path": "film.mp4", "count": 9, "layers": {"root": "given", "frames": layers[3:5]}}
    assert len(remark["layers"]["frames"]) == 9  # type: ignore[arg-type, index]
