"""What a person changes in a single picture: its caption, its mask, who is pointed out in it; and what a LoRA is used
with.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bglora.errors import UserError
from bglora.project.names import check_pictures, check_scenes
from bglora.settings.lora import ALL_SCENES

if TYPE_CHECKING:
    from bglora.engine.stage import Row, View
    from bglora.project.deciding import Deciding

LONGEST = 2000
"""Characters of a caption; text encoders read some 75 to 225 tokens."""
VALUES = (0, 128, 255)


def caption_of(view: View, plate: str) -> Row:
    """The plate's row of `caption`. Raises `UserError` where it has no caption."""
    found = next((row for row in view.rows("caption") if row.picture == plate and row.record.get("caption")), None)
    if found is None:
        check_pictures(view, [plate])
        raise UserError(
            f"{plate} has no caption: it is in no dataset.",
            where="datasets/",
            cure="Captions come from: bglora run --to caption; `bglora status` says what it leaves out.",
        )
    return found


def text_file(row: Row) -> str:
    """Path of a caption in its dataset; empty for a plate that is held out."""
    return next((path for path in row.outputs if path.endswith(".txt")), "")


def mask_file(view: View, frame: str) -> str:
    """Path of a frame's mask. Raises `UserError` where `segment` made none."""
    row = next((row for row in view.rows("segment") if row.picture == frame), None)
    path = next((path for path in (row.outputs if row else ()) if path.startswith("segmented/masks/")), "")
    if not path:
        check_pictures(view, [frame])
        why = f": {row.reason}" if row is not None and row.reason else ""
        raise UserError(
            f"{frame} has no mask to paint on{why}.",
            where=frame,
            cure="Masks come from: bglora segment; `bglora keep` takes a frame as a plate without one.",
        )
    return path


def caption(project: Deciding, texts: Mapping[str, str]) -> None:
    """Writes captions into decisions.toml; a caption that was edited by hand is replaced, too, for it would be kept."""
    wanted, files = [], {}
    with project.view() as view:
        for plate, text in texts.items():
            row = caption_of(view, plate)
            trigger = str(row.record.get("trigger") or view.item_record("caption", row.item).get("trigger") or "")
            own = _without(trigger, one_line(text))
            wanted.append(("caption", {"caption": plate, "text": own}))
            path, made = text_file(row), str(row.record["caption"])
            there = _read(project.root / path) if path else made
            if there not in (made, ""):
                files[path] = f"{trigger}, {own}" if own else made
    project.decisions.add_all(wanted)
    for path, text in files.items():
        _write(project.root, path, f"{text}\n".encode())


def caption_files(project: Deciding, plates: Iterable[str]) -> list[str]:
    """Paths of the captions of plates, as far as they have one."""
    wanted = set(plates)
    with project.view() as view:
        found = [text_file(row) for row in view.rows("caption") if row.picture in wanted]
    return [path for path in found if path]


def replaced(project: Deciding, scene: str, find: str, new: str) -> dict[str, str]:
    """Captions of a scene in which a tag, or a run of tags, is replaced; an empty `new` takes it out.

    Raises:
        UserError: no caption of the scene has it.
    """
    old, put = ([tag.strip() for tag in text.split(",") if tag.strip()] for text in (find, new))
    if not old:
        raise UserError("Say which tag to replace.", where=scene, cure="A tag is what stands between two commas.")
    with project.view() as view:
        check_scenes(view, [scene])
        own = view.decisions.captions()
        found = {}
        for row in view.rows("caption"):
            if row.item == scene and row.record.get("caption"):
                tags = [tag.strip() for tag in _present(project.root, row, own).split(",")]
                changed = _replaced(tags, old, put)
                if changed != tags:
                    found[row.picture] = ", ".join(changed)
    if not found:
        raise UserError(
            f"No caption of {scene} has the tag {find!r}.", where=f"datasets/{scene}", cure="Tags are compared whole."
        )
    return found


def _replaced(tags: list[str], old: list[str], new: list[str]) -> list[str]:
    done: list[str] = []
    place = 0
    while place < len(tags):
        if tags[place : place + len(old)] == old:
            done += new
            place += len(old)
        else:
            done.append(tags[place])
            place += 1
    return done


def _present(root: Path, row: Row, own: Mapping[str, str]) -> str:
    """What stands in the dataset after the next run: as edited by hand, as decided, else as written."""
    made = str(row.record["caption"])
    there = _read(root / text_file(row)) if text_file(row) else made
    if there not in (made, ""):
        return there
    trigger = str(row.record.get("trigger") or "")
    return f"{trigger}, {own[row.picture]}".removeprefix(", ") if row.picture in own else made


def one_line(text: str, kind: str = "caption", cure: str = "Write tags with commas between them.") -> str:
    """A caption, or a title, as it is stored: one line, single spaces, no comma at its ends."""
    line = " ".join(text.split()).strip(", ")
    if len(line) > LONGEST or not line.isprintable():
        what = f"is longer than {LONGEST} characters" if len(line) > LONGEST else "has signs that can't be printed"
        raise UserError(f"This {kind} {what}.", where=line[:60], cure=cure)
    return line


def title_line(scene: str, text: str) -> str:
    """A scene's title as it is stored, in one line."""
    title = one_line(text, "title", "Write in a few words what the place is called.")
    if not title:
        raise UserError("A scene needs a title.", where=scene, cure="Write what the place is called.")
    return title


def _without(trigger: str, text: str) -> str:
    first, _, rest = text.partition(",")
    return rest.strip() if trigger and first.strip().casefold() == trigger.casefold() else text


def choose(project: Deciding, scene: str, checkpoint: str, scale: float) -> None:
    """Writes what a scene is composed with."""
    if not 0 <= scale <= 2:
        raise UserError(
            f"{scale:g} is no scale.", where=scene, cure="Choose one from 0 to 2; 0 is the recommended one."
        )
    with project.view() as view:
        check_scenes(view, [scene])
        there = loras_of(view, scene)
    if checkpoint and checkpoint not in there:
        raise UserError(
            f"{scene} has no LoRA file {checkpoint!r}.",
            where=f"loras/: {', '.join(there) or 'nothing yet'}",
            cure="Choose one of these, or train it: bglora train",
        )
    project.decisions.add("choose", choose=scene, checkpoint=checkpoint, scale=float(scale))


def loras_of(view: View, scene: str) -> list[str]:
    """LoRA files that `train` made of a scene, the finished one first."""
    rows = [row for row in view.rows("train") if row.status == "made"]
    row = next((row for row in rows if row.picture == scene), None) or next(
        (row for row in rows if row.picture == ALL_SCENES), None
    )
    return lora_files(row) if row is not None else []


def lora_files(row: Row) -> list[str]:
    """LoRA files of a row of `train`, the finished one first."""
    files = [path for path in row.outputs if path.endswith(".safetensors")]
    return sorted(files, key=lambda path: ("/checkpoints/" in path, path))


def point_out(project: Deciding, frame: str, box: Sequence[float], points: Sequence[Sequence[float]]) -> None:
    """Writes a prompt; without a box and points, takes back those of the frame."""
    backend = project.settings.segment.backend
    if (box or points) and backend not in ("sam2", "sam3"):
        raise UserError(
            f"The masks backend {backend} can't be told who is meant; sam2 and sam3 can.",
            where=f"segment.backend = {backend!r}",
            cure="bglora set segment.backend sam2 (`bglora models pull` fetches its weights), or paint on the mask.",
        )
    with project.view() as view:
        row = next((row for row in view.rows("ingest") if row.picture == frame and row.status == "made"), None)
        if row is None:
            check_pictures(view, [frame])
            raise UserError(f"{frame} is no frame of the film.", where=frame, cure="Point at a frame, not at a plate.")
        height, width = row.record.get("size", (0, 0))
    _inside(frame, [*zip(box[::2], box[1::2], strict=True), *(point[:2] for point in points)], width, height)
    project.decisions.add("prompt", prompt=frame, box=list(box), points=[list(point) for point in points])


def _inside(frame: str, corners: Iterable[Any], width: int, height: int) -> None:
    for x, y in corners:
        if not (0 <= x <= width and 0 <= y <= height):
            raise UserError(
                f"({x:g}, {y:g}) lies outside the frame.",
                where=f"{frame}, {width} x {height} pixels",
                cure="Point into the picture: x from the left, y from the top, in pixels.",
            )


def edit_mask(project: Deciding, frame: str, png: bytes) -> None:
    """Writes a painted mask. The next run takes it for a person's and keeps it."""
    with project.view() as view:
        path = mask_file(view, frame)
    _write(project.root, path, painted(png, project.root / path, frame))


def painted(png: bytes, before: Path, frame: str) -> bytes:
    """A painted mask as it is stored: 8-bit grey PNG.

    Args:
        png: grey, or grey in color without transparency, of the size of the mask `before`; 0, 128 and 255 only.

    Raises:
        UserError: it is no such picture, or the mask that is there can't be read.
    """
    import numpy as np
    from PIL import Image

    from bglora.film.png import read_grey

    old = read_grey(before)
    height, width = old.shape

    def wrong(what: str) -> UserError:
        return UserError(
            f"This is no mask: {what}.",
            where=frame,
            cure="Send a PNG of the frame's size with 0 background, 128 shadow or reflection, 255 character.",
        )

    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
            if picture.size != (width, height):  # told by the header, before anything is unpacked
                raise wrong(f"it is {picture.width} x {picture.height}, the frame {width} x {height}")
            if picture.mode not in ("L", "RGB", "RGBA"):
                raise wrong(f"its pixels are {picture.mode}")
            array = np.asarray(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise wrong(str(error)) from None
    if array.ndim == 3:
        if (array[..., :3] != array[..., :1]).any() or (array[..., 3:] != 255).any():
            raise wrong("it is colored or see-through")
        array = array[..., 0]
    if not np.isin(array, VALUES).all():
        raise wrong("it has other values")
    if np.array_equal(array, old):
        return before.read_bytes()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""


def _write(root: Path, path: str, content: bytes) -> None:
    from bglora.engine.files import told, write_atomically

    with told(root / path):
        write_atomically(root / path, content, scratch=root / ".bglora" / "edits")
