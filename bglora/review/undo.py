"""What was there before an act, kept in .bglora/undo, so that the act can be taken back.

.bglora/undo/000012-5f3a/entry.json     what it was, and for each file: path, content before (a file beside it, or
                                        null where there was none), digest of the content after
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bglora.decisions import FILE
from bglora.engine.files import digest_bytes, told, unlink_quietly, write_atomically
from bglora.errors import UserError

MOST = 200
"""Acts that can be taken back."""


class Journal:
    """The acts of a project, the last one on top."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".bglora" / "undo"

    def head(self) -> str:
        """Name of the last act that is not taken back; empty if there is none."""
        entries = self._entries()
        return entries[-1].name if entries else ""

    def last(self) -> str | None:
        """What would be taken back, in words; None if nothing can be: other hands changed the files since."""
        entries = self._entries()
        about = _read(entries[-1]) if entries else None
        return str(about["said"]) if about is not None and not self._changed(about) else None

    @contextmanager
    def entry(self, said: str, files: Sequence[str]) -> Iterator[None]:
        """Notes what the block replaces in decisions.toml and in these files; puts it back if the block fails."""
        names = [FILE, *files]
        entries = self._entries()
        number = int(entries[-1].name.partition("-")[0]) + 1 if entries else 0
        folder = self.folder / f"{number:06d}-{secrets.token_hex(4)}"
        with told(folder):
            folder.mkdir(parents=True)
            before = [self._content(name) for name in names]
            for place, content in enumerate(before):
                if content is not None:
                    (folder / f"{place}.before").write_bytes(content)
        try:
            yield
        except BaseException:
            for name, content in zip(names, before, strict=True):
                if self._content(name) != content:
                    self._put(name, content)
            shutil.rmtree(folder)
            raise
        changed = [
            {"path": name, "before": None if content is None else f"{place}.before", "after": _digest(now)}
            for place, (name, content) in enumerate(zip(names, before, strict=True))
            if (now := self._content(name)) != content
        ]
        if not changed:
            shutil.rmtree(folder)
            return
        text = json.dumps({"said": said, "files": changed}, ensure_ascii=False)
        write_atomically(folder / "entry.json", text.encode(), scratch=folder)
        for old in entries[: len(entries) + 1 - MOST]:
            shutil.rmtree(old)

    def undo(self) -> str:
        """Takes the last act back and says which it was.

        Raises:
            UserError: there is none, or its files were changed since.
        """
        entries = self._entries()
        if not entries:
            raise UserError("There is nothing to take back.", where=FILE, cure="Acts of this page can be taken back.")
        about = _read(entries[-1])
        changed = self._changed(about)
        if changed:
            raise UserError(
                f"{changed} was changed by other hands since.",
                where=changed,
                cure=f"Decide anew, or edit {FILE}: taking {about['said']!r} back would lose that change.",
            )
        for one in about["files"]:
            self._put(one["path"], None if one["before"] is None else (entries[-1] / one["before"]).read_bytes())
        shutil.rmtree(entries[-1])
        return str(about["said"])

    def tidy(self) -> None:
        """Deletes what a killed server left of an act that it was in the middle of."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if not (path / "entry.json").is_file():
                    shutil.rmtree(path)

    def _entries(self) -> list[Path]:
        try:
            return sorted(path for path in self.folder.iterdir() if (path / "entry.json").is_file())
        except FileNotFoundError:
            return []

    def _changed(self, about: dict[str, Any]) -> str:
        """The first file that is not as the act left it; empty if all are."""
        files = about["files"]
        return next((one["path"] for one in files if _digest(self._content(one["path"])) != one["after"]), "")

    def _put(self, name: str, content: bytes | None) -> None:
        path = self.root / name
        if content is None:
            unlink_quietly(path)
        else:
            with told(path):
                write_atomically(path, content, scratch=self.root / ".bglora" / "edits")

    def _content(self, name: str) -> bytes | None:
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None


def _read(folder: Path) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
    return about


def _digest(content: bytes | None) -> str:
    return "" if content is None else digest_bytes(content)
