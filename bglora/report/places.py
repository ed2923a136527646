"""The places: contact sheet with captions, trigger, loss curve, verdict and grid, compositions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bglora.engine.stage import Row
from bglora.report.contents import Place
from bglora.report.figures import code, facts, figure, picture, sentence
from bglora.report.markup import Html, count, tag
from bglora.report.pictures import Picture, photo
from bglora.report.training import training
from bglora.report.verdicts import grid, number, verdict

HERO_WIDTH = 960
THUMB_WIDTH = 320
THUMBS_OF_THE_PAGE = 240


def hero(root: Path, places: list[Place]) -> Html:
    """The places at a glance, one large plate each."""
    cells = []
    for place in places[:6]:
        row = best_plate(place)
        if row is None:
            continue
        shown = picture(photo(root / plate_path(row), HERO_WIDTH, 80), f"{place.title}, without characters")
        words = [tag("b", place.title), tag("span", count(len(place.plates), "plate"), class_="soft")]
        cells.append(tag("a", figure(shown, words), href=f"#{place.id}", aria_label=f"Place: {place.title}"))
    return tag("div", cells, class_="hero", style=f"--columns: {hero_columns(len(cells))}") if cells else Html("")


def hero_columns(cells: int) -> int:
    """Columns that leave no gap: 1, 2, 3, 2 by 2, 3 for more."""
    return {1: 1, 2: 2, 4: 2}.get(cells, 3)


def best_plate(place: Place) -> Row | None:
    """The plate with the least guessed in it; of equals the one in the middle of the film's order."""
    made = [row for row in place.plates if row.status == "made" and plate_path(row)]
    if not made:
        return None
    least = min(_guessed(row) for row in made)
    equals = [row for row in made if _guessed(row) <= least + 1e-9]
    return equals[len(equals) // 2]


def _guessed(row: Row) -> float:
    return float(row.record.get("guessed") or 0) + float(row.record.get("untrusted") or 0)


def plate_path(row: Row) -> str:
    """The plate's path in the project; empty if the row has none."""
    return next((name for name in row.outputs if name.startswith("plates/") and ".." not in name.split("/")), "")


def places_section(root: Path, places: list[Place], noise: list[Row], notice: str) -> Html:
    if not places and not noise:
        return Html("")
    each = max(4, min(12, THUMBS_OF_THE_PAGE // max(1, len(places))))
    return tag(
        "section",
        tag("h2", "Places", id="places-title"),
        tag("p", sentence(f"{notice[:1].upper()}{notice[1:].rstrip('.')}."), class_="notice") if notice else None,
        [_place(root, place, each) for place in places],
        _noise(noise),
        id="places",
        aria_labelledby="places-title",
    )


def _place(root: Path, place: Place, thumbs: int) -> Html:
    return tag(
        "article",
        tag(
            "header",
            tag("h3", place.title, id=f"{place.id}-title"),
            tag("p", " · ".join(_counts(place)), class_="soft"),
        ),
        _contact_sheet(root, place, thumbs),
        _dataset(place),
        tag("div", training(root, place), verdict(place.grid), class_="pair"),
        grid(root, place),
        _compositions(root, place),
        id=place.id,
        class_="place",
        aria_labelledby=f"{place.id}-title",
    )


def _counts(place: Place) -> list[str]:
    return [place.id, count(len(place.plates), "plate"), f"from {count(len(place.shots), 'shot')}"]


def _contact_sheet(root: Path, place: Place, thumbs: int) -> Html:
    made = [row for row in place.plates if row.status == "made" and plate_path(row)]
    told = {row.picture: row for row in place.dataset}
    alike = shared_tags(list(place.captions))
    figures = []
    for row in chosen_plates(made, told, thumbs):
        shown = picture(photo(root / plate_path(row), THUMB_WIDTH), f"Plate {row.picture}")
        words = _own_words(told.get(row.picture), alike)
        figures.append(figure(shown, [tag("b", row.picture), tag("span", words, class_="said") if words else None]))
    return tag(
        "div",
        figures,
        class_="sheet",
        role="region",
        tabindex=0,
        aria_label=f"Contact sheet of {place.title}",
        data_gallery=True,
    )


def chosen_plates(plates: Sequence[Row], told: Mapping[str, Row], limit: int) -> list[Row]:
    """At most `limit` plates in the film's order: those in the dataset first, the rest evenly from the others."""
    inside = [row for row in plates if row.picture in told and told[row.picture].status == "made"]
    first = spread(inside, limit)
    names = {row.picture for row in inside}
    rest = [row for row in plates if row.picture not in names]
    room = limit - len(first)
    names = {row.picture for row in (*first, *(spread(rest, room) if room > 1 else rest[:room]))}
    return [row for row in plates if row.picture in names]


def shared_tags(captions: Sequence[str]) -> tuple[int, int]:
    """How many tags all captions have in common at the start and at the end; none where there is one caption only."""
    split = [caption.split(", ") for caption in captions]
    if len(split) < 2:
        return 0, 0
    start = _shared(split)
    return start, _shared([tags[start:][::-1] for tags in split])


def _shared(lists: Sequence[Sequence[str]]) -> int:
    count = 0
    for tags in zip(*lists, strict=False):
        if len(set(tags)) > 1:
            break
        count += 1
    return count


def _own_words(row: Row | None, alike: tuple[int, int]) -> str:
    """What a plate's caption says that the others' don't; why it is not in the dataset if it isn't."""
    if row is None:
        return ""
    if row.status != "made":
        return row.reason
    tags = str(row.record.get("caption", "")).split(", ")
    return ", ".join(tags[alike[0] : len(tags) - alike[1]])


def spread(rows: Sequence[Row], limit: int) -> list[Row]:
    """At most `limit` of them, evenly spread, first and last included."""
    if len(rows) <= limit:
        return list(rows)
    return [rows[round(index * (len(rows) - 1) / (limit - 1))] for index in range(limit)]


def _dataset(place: Place) -> Html | None:
    captions = place.captions
    if not captions:
        return None
    remark = place.dataset_remark
    held_out = remark.get("held_out") or ()
    shown = captions.most_common(3)
    rest = captions.most_common()[3:]
    more = None
    if rest:
        more = tag(
            "details",
            tag("summary", f"{count(len(rest), 'more caption')}"),
            tag("ul", [_caption(words, times) for words, times in rest], class_="captions"),
        )
    return tag(
        "div",
        tag("h4", "Dataset"),
        facts(
            ("trigger", code(place.trigger) if place.trigger else None),
            ("pictures", str(sum(captions.values()))),
            ("repeats", str(remark.get("repeats") or "")),
            ("mirrored", "yes" if remark.get("flip") else "no"),
            ("held out", str(len(held_out)) if held_out else ""),
        ),
        tag("ul", [_caption(words, times) for words, times in shown], class_="captions"),
        more,
        class_="dataset",
    )


def _caption(words: str, times: int) -> Html:
    return tag("li", tag("q", words), tag("span", f" × {times}", class_="soft"))


def _compositions(root: Path, place: Place) -> Html | None:
    cells, width = [], 0
    for row in place.compositions:
        name = next((name for name in row.outputs if name.endswith((".png", ".webp"))), "")
        if not name or ".." in name.split("/"):
            continue
        shown = photo(root / name, 640, 80)
        width = max(width, shown.width if isinstance(shown, Picture) else 0)
        words = tag("span", recipe_in_words(row.record))
        cells.append(figure(picture(shown, f"Composition with {place.title}"), words))
    if not cells:
        return None
    size = f"--cell: {min(420, max(180, width * 3 // 2))}px"  # a thumbnail is not blown up
    gallery = tag("div", cells, class_="compositions", style=size, data_gallery=True)
    return tag("div", tag("h4", "Compositions"), gallery, class_="composed")


def recipe_in_words(recipe: Mapping[str, Any]) -> str:
    """Prompt, then adapters with their scales, then the seed, as far as the recipe has them."""
    words = [str(recipe["prompt"])] if recipe.get("prompt") else []
    words += [f"{Path(str(lora.get('file'))).stem} {number(lora.get('scale'))}" for lora in recipe.get("loras") or ()]
    if recipe.get("seed") is not None:
        words.append(f"seed {recipe['seed']}")
    return " · ".join(words)


def _noise(noise: list[Row]) -> Html | None:
    if not noise:
        return None
    lines = [tag("li", tag("b", row.picture), " ", sentence(row.reason)) for row in noise[:60]]
    more = tag("li", f"and {len(noise) - 60} more") if len(noise) > 60 else None
    return tag(
        "details",
        tag("summary", f"{count(len(noise), 'plate')} in no place"),
        tag("p", ["To give one back: ", code("bglora keep PICTURE")], class_="soft"),
        tag("ul", lines, more, class_="names"),
        class_="noise",
    )
