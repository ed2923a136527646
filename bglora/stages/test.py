"""`test`: a grid of pictures per LoRA, and a verdict on them in words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from bglora import backends
from bglora.engine.stage import Item, Outcome, Stage, Stopped, Tools, View
from bglora.errors import UserError
from bglora.stages import appearances
from bglora.stages.train import SceneData, located_base, scene_data

if TYPE_CHECKING:
    from bglora.training.figures import Estimate

LIGHTS = ("golden evening", "blue dusk")
CHARACTER = "with a character"
FOR_LIKENESS, FOR_COPIES = 32, 64
"""Held-out and training plates that pictures are compared with, at most."""


@dataclass(frozen=True)
class Plates:
    """A scene's plates at the grid's size and as soft as the base's own decoder makes them, uint8 (n, H, W, 3)."""

    training: np.ndarray
    held_out: np.ndarray


class Test(Stage):
    name: ClassVar[str] = "test"
    version: ClassVar[int] = 3
    reads: ClassVar[tuple[str, ...]] = ("inpaint", "cluster", "caption", "train")
    home: ClassVar[str] = "grids"
    parallel: ClassVar[bool] = False
    __test__ = False  # pytest must not take it for a test class

    def items(self, view: View) -> Iterable[Item]:
        """One for each trained scene."""
        loras = trained_loras(view)
        settings = view.settings
        identity = painter_identity(view.root, settings)
        judge = backends.identity("embed", settings.cluster.backend, settings.cluster)
        chosen = {f"test.{key}": value for key, value in settings.test.model_dump(mode="json").items()}
        for data in scene_data(view):
            if data.scene not in loras:
                continue
            lora = loras[data.scene]
            captions = [entry for entry in data.pictures if entry["text"]]
            yield Item(
                name=data.scene,
                pictures=(data.scene,),
                files=tuple(
                    sorted({lora, *(entry["image"] for entry in (*data.pictures, *data.held_out)), *_texts(data)})
                ),
                settings={
                    **chosen,
                    "train.threads": settings.train.threads,
                    "caption.empty_words": settings.caption.empty_words,
                },
                payload={
                    "title": data.title,
                    "trigger": data.about["trigger"],
                    "lora": lora,
                    "texts": [entry["text"] for entry in captions],
                    "lighting": _lighting(view, data.scene),
                    "pictures": [entry["image"] for entry in data.pictures],
                    "held_out": [entry["image"] for entry in data.held_out],
                    "copies": _near_copies(view, data.scene),
                    "limits": _limits(view, data.scene),
                },
                backend=f"{identity} {judge}{appearances.identity(settings)}",
            )

    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        """Paints the grid and judges it."""
        from bglora.training.base import exact

        with exact(int(item.settings["train.threads"])):
            painter = shared_painter(tools)
            try:
                yield _test(item, tools, painter)
            finally:
                painter.close()


def trained_loras(view: View) -> dict[str, str]:
    """Scene to its LoRA file. Raises `UserError` when none was trained."""
    rows = [row for row in view.rows("train") if row.status == "made"]
    if not rows:
        raise UserError("There are no LoRAs yet.", where=str(view.root / "loras"), cure="bglora train")
    return {row.picture: next(path for path in row.outputs if path.endswith(".safetensors")) for row in rows}


def painter_identity(root: Path, settings: Any) -> str:
    located = settings.train.model_copy(update={"base": located_base(root, settings.train.base)})
    return backends.identity("paint", "diffusers", located)


def shared_painter(tools: Tools) -> Any:
    """The painter on the project's base, loaded once per process."""
    train = tools.settings.train
    located = train.model_copy(update={"base": located_base(Path(tools.root), train.base)})
    memory = tools.settings.compose.memory
    paint = backends.module("paint", "diffusers")
    return tools.once(f"paint:{located.base}:{memory}", lambda: paint.create(located, memory=memory))


def _texts(data: SceneData) -> set[str]:
    return {entry["text"] for entry in data.pictures}


def _lighting(view: View, scene: str) -> list[str]:
    """Words for light that the scene's captions use."""
    rows = [row for row in view.rows("caption") if row.item == scene]
    return sorted({str(row.record.get("fields", {}).get("lighting", "")) for row in rows} - {""})


def _near_copies(view: View, scene: str) -> int:
    """Plates of the scene that `caption` left out because they show what another one shows."""
    return sum(row.item == scene and row.reason.startswith("near copy of ") for row in view.rows("caption"))


def _limits(view: View, scene: str) -> list[str]:
    """Changes of settings that would let in more plates: of the film's frames (0 is no limit), and of the scene's."""
    ingest = view.settings.ingest
    found = [f"ingest.{key} = 0" for key in ("fps", "max_per_shot") if getattr(ingest, key)]
    full = any(row.item == scene and row.reason.startswith("not among ") for row in view.rows("caption"))
    return [*found, "caption.target_size higher"] if full else found


def default_prompts(captions: Sequence[str], lighting: Sequence[str], empty_words: str) -> list[str]:
    """A caption as it is, with a character instead of the empty-scene words, and in two other lights."""
    empty = {tag.strip() for tag in empty_words.split(",") if tag.strip()}
    tags = [tag.strip() for tag in captions[len(captions) // 2].split(",") if tag.strip()]
    place = [tag for tag in tags if tag not in empty]
    unlit = [tag for tag in place if tag not in lighting]
    prompts = [tags, [*place, CHARACTER], *([*unlit, light, *(t for t in tags if t in empty)] for light in LIGHTS)]
    return [", ".join(prompt) for prompt in prompts]


def _test(item: Item, tools: Tools, painter: Any) -> Outcome:
    settings = item.settings
    root, payload = Path(tools.root), item.payload
    captions = [(root / text).read_text("utf-8").strip().split("\n")[0] for text in payload["texts"]]
    prompts = list(settings["test.prompts"]) or default_prompts(
        captions, payload["lighting"], settings["caption.empty_words"]
    )
    scales = sorted({0.0, *settings["test.scales"]})
    side = settings["test.size"] or painter.size
    pictures = _paint_grid(item, tools, painter, prompts, scales, (side, side))
    tools.progress(1, 1, "judging")
    plates = Plates(
        _plates(root, payload["pictures"], FOR_COPIES, side, painter),
        _plates(root, payload["held_out"], FOR_LIKENESS, side, painter),
    )
    somebody = appearances.rates(tools, pictures, prompts)
    scores, verdict, recommended = _judge(tools, pictures, plates, scales, payload, somebody)
    home = f"grids/{item.name}"
    outputs = _write_pictures(Path(tools.scratch), home, pictures, prompts, scales)
    about = {
        "trigger": payload["trigger"],
        "prompts": prompts,
        "scales": scales,
        "seeds": settings["test.seeds"],
        "recommended_scale": recommended,
        "verdict": verdict,
        **scores,
    }
    path = Path(tools.scratch) / home / "scores.json"
    path.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", "utf-8", newline="\n")
    record = {"verdict": verdict, "recommended_scale": recommended, "scores": scores, "grid": f"{home}/grid.webp"}
    refused = sorted({fault["word"] for fault in verdict} & set(settings["test.fail_on"]))
    status, reason = ("failed", f"test.fail_on: {', '.join(refused)}") if refused else ("made", "")
    return Outcome(item.name, status, reason, (*outputs, f"{home}/scores.json"), record)  # type: ignore[arg-type]


def _paint_grid(
    item: Item, tools: Tools, painter: Any, prompts: Sequence[str], scales: Sequence[float], size: tuple[int, int]
) -> np.ndarray:
    """uint8 (scales, prompts, seeds, H, W, 3); every scale starts from the same noise."""
    settings = item.settings
    seeds = [tools.seed + number for number in range(settings["test.seeds"])]
    rows = []
    for number, scale in enumerate(scales):
        if tools.stopping():
            raise Stopped(f"{item.name} at scale {scale:g}")
        tools.progress(number, len(scales), f"painting at scale {scale:g}")
        flat = painter.paint(
            [prompt for prompt in prompts for _ in seeds],
            settings["test.negative_prompt"],
            seeds * len(prompts),
            size,
            settings["test.steps"],
            settings["test.guidance_scale"],
            [(Path(tools.root) / item.payload["lora"], scale)],
        )
        rows.append(np.stack(flat).reshape(len(prompts), len(seeds), *flat[0].shape))
    return np.stack(rows)


def _plates(root: Path, paths: Sequence[str], most: int, side: int, painter: Any) -> np.ndarray:
    """Plates as square pictures seen through the base's VAE; evenly chosen where there are many."""
    from bglora.training.buckets import cut_picture
    from bglora.training.pictures import cut_pixels, read_picture

    chosen = [paths[i * len(paths) // min(most, len(paths))] for i in range(min(most, len(paths)))]
    squares = []
    for path in chosen:
        picture = read_picture(root / path)
        squares.append(cut_pixels(picture, cut_picture(picture.shape[:2], [(side, side)])))
    return painter.as_painted(np.stack(squares)) if squares else np.zeros((0, side, side, 3), np.uint8)


def _judge(
    tools: Tools,
    pictures: np.ndarray,
    plates: Plates,
    scales: Sequence[float],
    payload: Mapping[str, Any],
    somebody: Sequence[Estimate] | None,
) -> tuple[dict[str, Any], list[dict[str, Any]], float]:
    """Figures as JSON, the verdict, and the recommended scale.

    Args:
        somebody: per scale the share of pictures with a character on them; None where nobody looked.
    """
    from bglora.training import figures, verdict

    cluster = tools.settings.cluster
    judge = tools.once(f"embed:{cluster.backend}", lambda: backends.load("embed", cluster.backend, cluster))
    flat = pictures.reshape(-1, *pictures.shape[3:])
    known = plates.held_out if len(plates.held_out) else plates.training
    embeddings, places = embedded(judge, pictures, known)
    likeness = figures.likeness(embeddings, places)
    followed, varied = figures.ratio(figures.following(embeddings)), figures.ratio(figures.variety(embeddings))
    correlations = figures.nearest(flat, plates.training).reshape(pictures.shape[0], -1)
    limit = max(0.9, float(figures.nearest(plates.held_out, plates.training).max()) if len(plates.held_out) else 0.0)
    found = [
        verdict.ScaleFigures(
            scale,
            figures.bootstrap(likeness[number]),
            figures.bootstrap(likeness[number] - likeness[0]),
            followed[number],
            varied[number],
            figures.wilson(int((correlations[number] > limit).sum()), correlations.shape[1]),
            somebody[number] if somebody else None,
        )
        for number, scale in enumerate(scales)
    ]
    scores = {
        "by_scale": [figure.to_json() for figure in found],
        "copy_limit": round(limit, 4),
        "likeness_to": "held-out plates" if len(plates.held_out) else "training plates, for none was held out",
        "characters": {"judged": True}
        if somebody
        else {"judged": False, "why": "test.detector is false, or every prompt asks for somebody"},
    }
    words = verdict.judge(found, len(payload["pictures"]), len(plates.held_out), payload["copies"], payload["limits"])
    return scores, words, verdict.recommend(found)


def embedded(judge: Any, pictures: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (scales, prompts, seeds, D) of the grid and (n, D) of plates, in one space: backends may choose what they
    measure by all the pictures of a call.

    Args:
        judge: the `embed` backend. pictures: uint8 (scales, prompts, seeds, H, W, 3). known: uint8 (n, H, W, 3).
    """
    flat = pictures.reshape(-1, *pictures.shape[3:])
    vectors = judge.embed([*flat, *known])
    return vectors[: len(flat)].reshape(*pictures.shape[:3], -1), vectors[len(flat) :]


def _write_pictures(
    scratch: Path, home: str, pictures: np.ndarray, prompts: Sequence[str], scales: Sequence[float]
) -> list[str]:
    """Each picture, and the sheet of all: a row a prompt, a column a scale."""
    from bglora.backends.paint.sheet import contact_sheet

    folder = scratch / home
    folder.mkdir(parents=True, exist_ok=True)
    outputs = []
    for s, scale in enumerate(scales):
        for p in range(len(prompts)):
            for number, picture in enumerate(pictures[s, p]):
                name = f"{home}/prompt{p}-scale{round(scale * 100):03d}-seed{number}.webp"
                Image.fromarray(picture).save(scratch / name, quality=92, method=4)
                outputs.append(name)
    cells = [[list(pictures[s, p]) for s in range(len(scales))] for p in range(len(prompts))]
    columns = ["base alone" if scale == 0 else f"scale {scale:g}" for scale in scales]
    sheet = contact_sheet(cells, prompts, columns, thumb=min(160, max(pictures.shape[3:5])))
    sheet.save(scratch / home / "grid.webp", quality=92, method=4)
    return [f"{home}/grid.webp", *outputs]
