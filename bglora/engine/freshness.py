"""Which files are as the ledger left them, and which were edited or deleted since. Folders are read, not pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bglora.engine import files
from bglora.engine.fingerprint import MISSING
from bglora.engine.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Condition:
    """What is not as recorded about an item's outputs.

    Attributes:
        missing: outputs that are gone.
        edited: outputs whose content is a person's.
    """

    missing: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()


AS_RECORDED = Condition()


class Folders:
    """Sizes and modification times of files, read a folder at a time and kept until forgotten."""

    def __init__(self, root: Path) -> None:
        self._root = os.fspath(root)
        self._known: dict[str, dict[str, str]] = {}
        self.changed_at: dict[str, int] = {}
        """When entries of a folder last came or went (mtime_ns), as it was just before the folder was read."""

    def stamp(self, path: str) -> str | None:
        """`size<TAB>mtime_ns` of a project-relative path; None if there is no such file inside the project."""
        folder, _, name = path.rpartition("/")
        found = self._known.get(folder)
        if found is None:
            if os.path.isabs(path):
                return None
            self.changed_at[folder] = self.modified(folder)
            found = self._known[folder] = _scan(f"{self._root}/{folder}")
        return found.get(name)

    def modified(self, folder: str) -> int:
        """mtime_ns of a folder; 0 if it is not there."""
        try:
            return os.stat(f"{self._root}/{folder}").st_mtime_ns
        except OSError:
            return 0

    def forget(self, folder: str) -> None:
        """Forgets a folder that was written to."""
        self._known.pop(folder, None)

    def forget_all(self) -> None:
        """Forgets everything."""
        self._known.clear()
        self.changed_at.clear()


def _scan(folder: str) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return found
    with entries:
        for entry in entries:
            try:
                if entry.is_dir():
                    continue
                info = entry.stat()
            except FileNotFoundError:
                continue
            found[entry.name] = f"{info.st_size}\t{info.st_mtime_ns}"
    return found


class Freshness:
    """Answers what lies on disk: present digests of files, and the condition of each stage's outputs.

    Args:
        thorough: look at every file. Otherwise a folder in which no file came or went since it was last looked into is
            taken to be as it was then: a file that was changed in place is noticed by the next thorough look.
    """

    def __init__(self, root: Path, ledger: Ledger, *, thorough: bool = True) -> None:
        self.root, self.ledger = root, ledger
        self.folders = Folders(root)
        self._thorough = thorough
        self._digests: dict[str, str] = {}
        self._read_before: dict[str, tuple[str, str]] | None = None
        self._conditions: dict[str, dict[str, Condition]] = {}

    def verify(self, stage: str) -> dict[str, Condition]:
        """Compares all outputs of a stage with the disk. Only items with something missing or edited are listed."""
        found = self._conditions.get(stage)
        if found is None:
            found = self._conditions[stage] = {}
            before = self.ledger.folders(stage)
            trusted = set() if self._thorough else self._unchanged(before)
            restamped: list[tuple[str, str]] = []
            for item, outputs in self.ledger.outputs(stage):
                condition, fresh_text = self._check(outputs, trusted)
                if condition is not AS_RECORDED:
                    found[item] = condition
                if fresh_text != outputs:
                    restamped.append((item, fresh_text))
            self._store(stage, restamped, before, trusted, found)
            self.folders.forget_all()
        return found

    def _unchanged(self, before: str) -> set[str]:
        lines = (line.split("\t") for line in before.split("\n") if line)
        return {folder for folder, mtime in lines if self.folders.modified(folder) == int(mtime)}

    def _store(
        self, stage: str, restamped: list[tuple[str, str]], before: str, trusted: set[str], odd: dict[str, Condition]
    ) -> None:
        if self.ledger.readonly:
            return
        doubtful = {path.rpartition("/")[0] for one in odd.values() for path in one.missing + one.edited}
        kept = [line for line in before.split("\n") if line.partition("\t")[0] in trusted]
        kept += [f"{name}\t{mtime}" for name, mtime in self.folders.changed_at.items() if name not in doubtful]
        after = "\n".join(sorted(kept))
        if restamped or after != before:
            with self.ledger.transaction():
                for item, outputs in restamped:
                    self.ledger.put_outputs(stage, item, outputs)
                self.ledger.put_folders(stage, after)

    def as_recorded(self, inputs: str) -> bool:
        """True if every input of an inputs text is there with the digest that it has in the text."""
        digest = self._digests.get
        for line in inputs.split("\n"):
            if line and digest(line[33:]) != line[:32] and self.digest(line[33:]) != line[:32]:
                return False
        return True

    def _check(self, outputs: str, trusted: set[str]) -> tuple[Condition, str]:
        if not outputs:
            return AS_RECORDED, outputs
        missing: list[str] = []
        edited: list[str] = []
        changed: dict[str, str] = {}
        stamp, digests = self.folders.stamp, self._digests
        for line in outputs.split("\n"):
            path, digest, recorded = line.split("\t", 2)
            if trusted and path.rpartition("/")[0] in trusted:
                digests[path] = digest
                continue
            found = stamp(path)
            if found == recorded:
                digests[path] = digest
            elif found is None or _emptied(found, digest):
                missing.append(path)
                digests.pop(path, None)
            else:
                now = digests[path] = self._read(path, found, recorded=digest)
                if now == digest:
                    changed[path] = f"{path}\t{digest}\t{found}"
                else:
                    edited.append(path)
        if changed:
            lines = [changed.get(line.partition("\t")[0], line) for line in outputs.split("\n")]
            outputs = "\n".join(lines)
        if not missing and not edited:
            return AS_RECORDED, outputs
        return Condition(tuple(missing), tuple(edited)), outputs

    def digest(self, path: str) -> str:
        """Digest of a file as it lies there now; `-` if it is missing. Read only if it changed since it was last read.

        Args:
            path: project-relative, or absolute for a source outside the project.
        """
        found = self._digests.get(path)
        if found is None:
            stamp = self.folders.stamp(path) or files.stamp(self.root / path)
            found = MISSING if stamp is None else self._read(path, stamp)
            if found != MISSING:
                self._digests[path] = found
        return found

    def _read(self, path: str, stamp: str, recorded: str = "") -> str:
        if self._read_before is None:
            self._read_before = self.ledger.digests()
        known = self._read_before.get(path)
        if known and known[0] == stamp:
            return known[1]
        digest = files.digest_file(self.root / path)
        if digest != recorded and not self.ledger.readonly:  # what is as recorded is kept with its item
            self.ledger.put_digest(path, stamp, digest)
            self._read_before[path] = (stamp, digest)
        return digest

    def edited(self, path: str, recorded: str) -> bool:
        """True if the file is there and its content is neither the recorded one nor emptied by a crash."""
        found = files.stamp(self.root / path)
        return found is not None and not _emptied(found, recorded) and self._read(path, found, recorded) != recorded

    def changed(self, stage: str, paths: Iterable[str]) -> None:
        """Says that the engine has written or moved these outputs of a stage: they are looked at anew."""
        self._conditions.pop(stage, None)
        for path in paths:
            self._digests.pop(path, None)
            self.folders.forget(path.rpartition("/")[0])


def _emptied(found: str, digest: str) -> bool:
    """A file of no bytes where some were recorded: what a power failure leaves of a file, not an edit."""
    return found.startswith("0\t") and digest != files.digest_bytes(b"")
