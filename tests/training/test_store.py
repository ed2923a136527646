"""What was encoded once is read the next time, and whatever changed is encoded anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from bglora.settings.lora import TrainSettings
from bglora.settings.presets import preset_values
from bglora.stages.hyper import recipe_of_settings, recipe_settings
from bglora.training.base import load_base
from bglora.training.cache import encode_examples, store_of
from bglora.training.caption_book import CaptionBook
from bglora.training.store import Store
from tests.training.tiny_base import tiny_base
from tests.training.tiny_job import RECIPE, Watcher, tiny_job, train, write_pictures


def unheard(done: int, total: int) -> None:
    """Nobody looks."""


def test_pictures_are_encoded_once_for_all_trainings_until_they_are_edited(tmp_path: Path) -> None:
    base, pictures = load_base(str(tiny_base())), write_pictures(tmp_path / "pictures", 3)

    def encoded(space: str = "base@1") -> tuple[list[torch.Tensor], int, int]:
        store = Store(tmp_path / "cache", space)
        examples = encode_examples(base, pictures, RECIPE, True, unheard, store)
        return [side for example in examples for side in example.latents], store.made, store.found

    first, made, found = encoded()
    assert (made, found) == (6, 0)  # three pictures and their mirror images
    again, made, found = encoded()
    assert (made, found) == (0, 6)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    picture = Image.open(pictures[1].image)
    picture.paste((255, 0, 0), (60, 30, 70, 40))
    picture.save(pictures[1].image)
    edited, made, found = encoded()
    assert (made, found) == (2, 4) and not torch.equal(first[2], edited[2])
    assert encoded("base@2")[1] == 6
    for file in (tmp_path / "cache").rglob("*.safetensors"):
        file.write_bytes(b"damaged")
    assert encoded()[1:] == (6, 0)


def test_a_base_that_knows_whole_pictures_alone_is_told_the_size_that_it_paints_at(tmp_path: Path) -> None:
    base, pictures = load_base(str(tiny_base())), write_pictures(tmp_path, 1)
    (usual,) = encode_examples(base, pictures, RECIPE, False, unheard)
    (whole,) = encode_examples(replace(base, fills=True), pictures, RECIPE, False, unheard)
    with Image.open(pictures[0].image) as picture:
        assert usual.time_ids[0].tolist()[:2] == [picture.height, picture.width] != list(usual.bucket)
    assert whole.time_ids[0].tolist() == [*usual.bucket, 0, 0, *usual.bucket]
    assert load_base("mini").fills and not base.fills


def test_the_preset_for_mini_trains_pictures_of_the_shape_that_mini_paints() -> None:
    train = TrainSettings(**preset_values("cpu")["train"])
    values = {f"train.{key}": value for key, value in recipe_settings(train, 0).items()}
    cuts = recipe_of_settings(values, train, 0).bucketing.cuts([(288, 512), (1080, 1920), (512, 288)])
    size = load_base(train.base).size
    assert train.base == "mini" and {cut.bucket for cut in cuts} == {(size, size)}


def test_captions_are_kept_by_their_words_and_by_how_they_are_read(tmp_path: Path) -> None:
    base = load_base(str(tiny_base()))
    for weighted, captions, made in ((False, ["a (b:2)"], 1), (False, ["a (b:2)", "c"], 1), (True, ["a (b:2)"], 1)):
        store = Store(tmp_path, "base@1")
        book = CaptionBook(base, False, weighted, store)
        book.prepare(captions)
        assert store.made == made
        assert torch.equal(book.embed(captions)[0], CaptionBook(base, False, weighted).embed(captions)[0])


def test_the_store_is_bounded_and_forgets_what_was_not_used_for_longest(tmp_path: Path) -> None:
    def made(number: int) -> dict[str, torch.Tensor]:
        return {"value": torch.full((250,), float(number))}  # a kilobyte

    store = Store(tmp_path, limit=6000)
    for number in range(5):
        store.get((number,), partial(made, number))
    store.get((0,), lambda: made(9))  # used again, so it stays
    store.get((5,), lambda: made(5))
    store.trim()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) <= 6000 * 0.8
    left = Store(tmp_path)
    for number in (0, 5, 1):
        left.get((number,), partial(made, number))
    assert (left.found, left.made) == (2, 1)


def test_a_file_that_another_process_takes_away_meanwhile_is_no_failure(tmp_path: Path) -> None:
    store = Store(tmp_path, limit=1)
    store.get((0,), lambda: {"value": torch.zeros(1)})
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nothing")  # listed, and not there once it is looked at
    store.trim()
    assert not [path for path in tmp_path.rglob("*.safetensors") if path.exists()]


def test_what_killed_processes_left_unfinished_goes_and_that_of_living_ones_stays(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "ab").mkdir()
    names = [f"x.safetensors.{ended.pid}", f"y.safetensors.{ended.pid}.part", f"z.safetensors.{os.getpid()}"]
    for name in (*names, "w.safetensors"):
        (tmp_path / "ab" / name).write_bytes(b"")
    Store(tmp_path)
    assert sorted(path.name for path in (tmp_path / "ab").iterdir()) == ["w.safetensors", names[2]]


def test_what_another_machine_has_not_finished_stays_for_a_day(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    young, old = (tmp_path / f"{name}.safetensors.{ended.pid}-0123abcd.part" for name in ("young", "old"))
    for path in (young, old):
        path.write_bytes(b"")
    os.utime(old, (0, 0))
    Store(tmp_path)
    assert list(tmp_path.iterdir()) == [young]


def test_a_training_ends_in_the_same_bytes_with_and_without_what_was_kept(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "pictures", samples=0, epochs=1)
    (file, *_) = train(job, Watcher(tmp_path / "first")).outputs
    first = (tmp_path / "first" / file).read_bytes()
    train(job, Watcher(tmp_path / "second"))
    cache = Watcher(tmp_path / "second").root / ".bglora/cache"
    assert any(cache.rglob("*.safetensors"))
    shutil.rmtree(cache)
    train(job, Watcher(tmp_path / "third"))
    assert (tmp_path / "second" / file).read_bytes() == first == (tmp_path / "third" / file).read_bytes()


def test_other_arithmetic_has_a_place_of_its_own(tmp_path: Path) -> None:
    base = load_base(str(tiny_base()))
    one, two = (store_of(base, tmp_path, "base@1", replace(RECIPE, threads=count)) for count in (1, 2))
    one.get(("x",), lambda: {"value": torch.zeros(1)})
    two.get(("x",), lambda: {"value": torch.ones(1)})
    assert two.made == 1
