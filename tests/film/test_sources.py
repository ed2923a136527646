"""What counts as a source, and the names that sources get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bglora.errors import UserError
from bglora.film.folder import natural_key
from bglora.film.png import write_png
from bglora.film.sources import find_sources, source_name


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"film")
    return path


def picture(path: Path) -> Path:
    write_png(path, np.zeros((4, 4, 3), np.uint8))
    return path


def named(root: Path, films: list[str] | None = None, layers: list[str] | None = None) -> list[tuple[str, str, str]]:
    return [(source.name, source.kind, source.title) for source in find_sources(root, films or [], layers or [])]


def test_natural_order() -> None:
    names = ["s10/2.png", "s2/10.png", "s2/9.png", "S2/1.png", "a.png"]
    assert sorted(names, key=natural_key) == ["a.png", "S2/1.png", "s2/9.png", "s2/10.png", "s10/2.png"]


@pytest.mark.parametrize("title", ["harbor", "The.Film_2-b", "..", "-v", "CON"])
def test_plain_names_stay(title: str) -> None:
    assert source_name(title) == title


def test_an_accent_written_as_two_characters_gives_the_same_name() -> None:
    assert source_name("caf\u00e9") == source_name("cafe\u0301")


@pytest.mark.parametrize("title", ["my film", "<script>", "漢字", 'a"b', "a'b", "名 前", "x" * 300 + " "])
def test_other_names_become_a_slug_with_digits(title: str) -> None:
    name = source_name(title)
    assert name == source_name(title) != source_name(title + "!")
    assert len(name) < 60
    assert name.isascii() and not set(name) & set(" <>\"'/\\")


def test_listed_films_come_before_what_lies_in_sources(tmp_path: Path) -> None:
    touch(tmp_path / "films" / "b.mp4")
    touch(tmp_path / "sources" / "a10.mkv")
    touch(tmp_path / "sources" / "a2.mkv")
    touch(tmp_path / "sources" / "notes.txt")
    touch(tmp_path / "sources" / ".hidden.mp4")
    assert named(tmp_path, ["films/b.mp4"]) == [("b", "video", "b"), ("a2", "video", "a2"), ("a10", "video", "a10")]


def test_a_film_in_sources_that_is_listed_too_is_one_source(tmp_path: Path) -> None:
    touch(tmp_path / "sources" / "a.mp4")
    assert named(tmp_path, ["sources/a.mp4"]) == [("a", "video", "a")]
    assert named(tmp_path, ["sources"]) == [("a", "video", "a")]


def test_equal_stems_get_numbers_whatever_their_case(tmp_path: Path) -> None:
    for name in ("x/film.mp4", "y/film.mkv", "z/Film.mov"):
        touch(tmp_path / name)
    names = [name for name, _, _ in named(tmp_path, ["x/film.mp4", "y/film.mkv", "z/Film.mov"])]
    assert names == ["film", "film-2", "Film-3"]


def test_subfolders_of_frames_are_sources_of_their_own(tmp_path: Path) -> None:
    for name in ("shots/s2/1.png", "shots/s10/1.png", "shots/deep/er/1.jpg", "shots/0.png"):
        picture(tmp_path / name)
    assert [name for name, _, _ in named(tmp_path, ["shots"])] == ["shots", "er", "s2", "s10"]


def test_strange_file_names_are_found(tmp_path: Path) -> None:
    titles = ["a b", "it's", "<script>alert(1)<", "漢字", "-rf", "..x"]
    for title in titles:
        touch(tmp_path / "sources" / f"{title}.mp4")
    found = find_sources(tmp_path, [], [])
    assert {source.title for source in found} == set(titles)
    assert len({source.name for source in found}) == len(titles)


@pytest.mark.parametrize(("films", "layers"), [(["gone.mp4"], []), (["empty"], []), ([], ["gone"]), ([], [])])
def test_what_is_not_there_is_an_error(tmp_path: Path, films: list[str], layers: list[str]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as error:
        find_sources(tmp_path, films, layers)
    assert error.value.cure


def test_layers_belong_to_the_only_film(tmp_path: Path) -> None:
    touch(tmp_path / "film.mp4")
    picture(tmp_path / "old" / "background" / "000001.png")
    assert find_sources(tmp_path, ["film.mp4"], ["old"])[0].layers == tmp_path / "old"


def test_layers_of_several_films_go_by_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        touch(tmp_path / f"{name}.mp4")
        picture(tmp_path / "old" / name / "background" / "000001.png")
    found = find_sources(tmp_path, ["one.mp4", "two.mp4"], ["old"])
    assert [source.layers for source in found] == [tmp_path / "old" / "one", tmp_path / "old" / "two"]
    picture(tmp_path / "other" / "000001.png")
    with pytest.raises(UserError, match="any of several films"):
        find_sources(tmp_path, ["one.mp4", "two.mp4"], ["other"])


def test_layers_without_a_film_are_sources(tmp_path: Path) -> None:
    picture(tmp_path / "old" / "background" / "a.png")
    picture(tmp_path / "holes" / "b.png")
    assert named(tmp_path, [], ["old", "holes"]) == [("old", "layers", "old"), ("holes", "layers", "holes")]
