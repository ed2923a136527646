"""Scenes that are named by words, and captions of a model: `cluster` and `caption` with tiny random checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from bglora.decisions import Decisions
from bglora.stages.scenes import inherit
from tests.backends import tiny_openclip, tiny_qwen
from tests.stages.drawn_plates import film, lay, records, run, runner, scenes


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tiny_openclip.write(tmp_path_factory.mktemp("openclip"))
    return {"backend": "openclip", "openclip": str(folder), "similarity_threshold": 1.0}


def titles(root: Path) -> list[str]:
    return [scene["title"] for scene in scenes(root)["scenes"]]


def test_new_scenes_are_named_by_the_word_that_fits_and_numbered_where_it_is_taken(tmp_path: Path, clip) -> None:
    lay(tmp_path, film(2))
    run(tmp_path, "inpaint", "cluster", cluster={**clip, "titles": ["beach"]})
    found = titles(tmp_path)
    assert found[0] == "beach" and found[1:] == [f"beach {n}" for n in range(2, len(found) + 1)]
    content = scenes(tmp_path)
    assert content["words"] == {scene["id"]: ["beach", 1.0] for scene in content["scenes"]}
    assert "OpenCLIP runs through" in content["notice"]


def test_titles_that_are_there_stay_when_the_words_change_and_a_persons_win(tmp_path: Path, clip) -> None:
    lay(tmp_path, film(2))
    run(tmp_path, "inpaint", "cluster", cluster={**clip, "titles": ["beach"]})
    Decisions.load(tmp_path).add("rename", rename="scene-00", title="The pier")
    before = ["The pier", *titles(tmp_path)[1:]]
    run(tmp_path, "inpaint", "cluster", cluster={**clip, "titles": ["cave"]})
    assert titles(tmp_path) == before
    assert {word for word, _ in scenes(tmp_path)["words"].values()} == {"cave"}


def test_without_words_or_where_none_fits_better_the_films_name_is_taken(tmp_path: Path, clip) -> None:
    lay(tmp_path, film(1))
    run(tmp_path, "inpaint", "cluster", cluster={**clip, "titles": []})
    assert all(title.startswith("film ") for title in titles(tmp_path)) and "words" not in scenes(tmp_path)
    found = inherit([["a-s000/1"], ["a-s001/1"]], {}, {"a": "A"}, ["", "cave"])
    assert found.titles == {"scene-00": "A 1", "scene-01": "cave"}


def test_the_descriptor_knows_no_words_and_nothing_of_it_goes_stale(tmp_path: Path) -> None:
    lay(tmp_path, film(1))
    run(tmp_path, "inpaint", "cluster", cluster={"titles": ["beach"]})
    again = run(tmp_path, "inpaint", "cluster", cluster={"titles": ["cave"], "openclip": "ViT-B-32/openai"})
    assert again.items == 0
    assert titles(tmp_path) == ["film 1"] and "words" not in scenes(tmp_path)


@pytest.mark.parametrize("says", [tiny_qwen.GOOD, ()])
def test_captions_say_who_wrote_them(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, says) -> None:
    folder = tiny_qwen.write(tmp_path_factory.mktemp("qwen"), says=says)
    lay(tmp_path, film(1))
    asked = {"backend": "qwen_vl", "qwen_vl": str(folder), "max_tokens": 32, "tries": 2, "held_out": 0.0}
    run(tmp_path, caption=asked)
    rows = [row["record"] for row in records(tmp_path, "datasets/caption.jsonl").values() if row["status"] == "made"]
    assert rows
    remark = runner(tmp_path).view().item_record("caption", "scene-00")
    if says:
        assert all("golden evening light" in row["caption"] and "said" not in row for row in rows)
        assert "notice" not in remark
    else:
        assert all("by the template: asked 2 times" in row["said"] for row in rows)
        assert remark["notice"].startswith(f"{len(rows)} of {len(rows)} captions were written otherwise")


def test_other_weights_at_the_same_place_sort_and_caption_again(tmp_path: Path) -> None:
    models = {name: tiny.write(tmp_path / name) for name, tiny in (("clip", tiny_openclip), ("qwen", tiny_qwen))}
    project = tmp_path / "film"
    lay(project, film(1))
    used = {
        "cluster": {"backend": "openclip", "openclip": str(models["clip"]), "similarity_threshold": 1.0},
        "caption": {"backend": "qwen_vl", "qwen_vl": str(models["qwen"]), "max_tokens": 4, "tries": 1},
    }

    def again() -> set[str]:
        return {stage.stage for stage in run(project, **used).stages if stage.items}

    assert {"cluster", "caption"} <= again()
    assert again() == set()
    for folder, stale in (("qwen", {"caption"}), ("clip", {"cluster", "caption"})):
        (file,) = models[folder].glob("*.safetensors")
        data = bytearray(file.read_bytes())
        data[-2] ^= 1
        file.write_bytes(bytes(data))
        assert again() == stale
