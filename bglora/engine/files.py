"""Files at the edge of the engine: atomic writes, digests, stamps, safe names, disk room, errors in three lines."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from bglora.engine import checkpoint
from bglora.errors import BgloraError, MachineError, UserError

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}
_BLOCK = 1 << 20
_RESERVED = re.compile(r"^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)
_UNSAFE = re.compile(r'[\x00-\x1f<>:"|?*\\]')
_LONGEST_NAME = 240


@contextmanager
def told(where: str | Path) -> Iterator[None]:
    """Turns a full disk into a `MachineError` and a refused write into a `UserError`; other errors pass."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise translated(error, where) or error from error


def translated(error: BaseException, where: str | Path) -> BgloraError | None:
    """The three-line error for an error of the disk, or None if it is of another kind."""
    if isinstance(error, BgloraError):
        return error
    number = getattr(error, "errno", None)
    sqlite = str(error) if isinstance(error, sqlite3.Error) else ""
    place = str(getattr(error, "filename", None) or where)
    if number in _FULL or "disk is full" in sqlite:
        return MachineError(
            "The disk is full.",
            where=place,
            cure="Free some room and run the same command again; what is done is kept.",
        )
    if number in _REFUSED or "readonly" in sqlite or "unable to open" in sqlite:
        return UserError(
            "This place cannot be written.",
            where=place,
            cure="Give yourself the right to write there, or copy the project to a folder of your own.",
        )
    if isinstance(error, sqlite3.DatabaseError) and ("malformed" in sqlite or "not a database" in sqlite):
        return LedgerDamaged(
            "The ledger is damaged.",
            where=place,
            cure="Run the same command again: the ledger is set aside and the work found by its content.",
        )
    return None


class LedgerDamaged(MachineError):
    """Met while working; the next start sets the ledger aside."""


def digest_bytes(content: bytes) -> str:
    """Content digest: BLAKE2b, 128 bit, as 32 hex digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def digest_file(path: str | Path) -> str:
    """Content digest of a file, read in blocks. A folder's digest covers its files' names and contents.

    Raises:
        FileNotFoundError: nothing is there.
    """
    if os.path.isdir(path):
        return _digest_folder(Path(path))
    state = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


def _digest_folder(folder: Path) -> str:
    state = hashlib.blake2b(digest_size=16)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        state.update(f"{path.relative_to(folder).as_posix()}\n{digest_file(path)}\n".encode())
    return state.hexdigest()


def stamp(path: str | Path) -> str | None:
    """Size and modification time as the ledger keeps them (`size<TAB>mtime_ns`); None if nothing is there.

    A folder's stamp covers every file below it.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not os.path.isdir(path):
        return f"{found.st_size}\t{found.st_mtime_ns}"
    state = hashlib.blake2b(digest_size=8)
    count = 0
    for file in sorted(p for p in Path(path).rglob("*") if p.is_file()):
        info = file.stat()
        state.update(f"{file.relative_to(path).as_posix()}\n{info.st_size}\t{info.st_mtime_ns}\n".encode())
        count += 1
    return f"{count}\t{int.from_bytes(state.digest()[:7], 'big')}"


def write_atomically(path: Path, content: bytes, *, scratch: Path, durable: bool = True) -> None:
    """Writes a file so that at every moment it holds the old or the new content.

    The new content is first written below `scratch` (on the same disk), so that a kill leaves nothing beside `path`.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    waiting = scratch / digest_bytes(str(path).encode())
    with open(waiting, "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    checkpoint.reached("written")
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(waiting, path)
    checkpoint.reached("replaced")


def move(source: Path, target: Path) -> None:
    """Moves a file into place, replacing what is there, in one step."""
    try:
        os.replace(source, target)
    except FileNotFoundError:
        if not source.exists():
            raise
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)


def remove_tree(folder: Path) -> None:
    """Removes a folder and all in it; nothing happens if it is not there."""
    if folder.exists():
        shutil.rmtree(folder)


def remove_empty(folder: Path, root: Path) -> None:
    """Removes a folder that has become empty, then its parents, up to but not including `root`."""
    while folder != root and root in folder.parents:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def check_output(path: str) -> None:
    """Refuses an output path that would leave the project or that some system cannot store.

    Raises:
        ValueError: absolute, has `..`, control characters, reserved or over-long names (a stage's bug).
    """
    pure = PurePosixPath(path)
    parts = pure.parts
    bad = (
        not parts
        or pure.is_absolute()
        or ".." in parts
        or parts[0] == ".bglora"
        or path != pure.as_posix()
        or any(
            _RESERVED.match(p) or _UNSAFE.search(p) or p[-1] in ". " or len(p.encode()) > _LONGEST_NAME for p in parts
        )
    )
    if bad:
        raise ValueError(f"an output may not be stored at this path: {path!r}")


def safe_name(name: str) -> str:
    """A short file name for any item name: readable start, then ten hex digits that keep it unique."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:40] or "item"
    return f"{readable}-{digest_bytes(name.encode())[:10]}"


def free_bytes(folder: Path) -> int:
    """Bytes that can still be written on the folder's disk."""
    return shutil.disk_usage(folder).free


def check_room(folder: Path, needed: int, stage: str) -> None:
    """Stops a stage before it starts when the disk cannot hold what it is expected to write.

    Raises:
        MachineError: less is free than needed.
    """
    free = free_bytes(folder)
    if needed > free:
        raise MachineError(
            f"{stage} would write about {_megabytes(needed)}, but only {_megabytes(free)} are free.",
            where=str(folder),
            cure="Free some room (`bglora clean` says what can go) or move the project to a larger disk.",
        )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def unlink_quietly(path: Path) -> None:
    """Deletes a file; nothing happens if it is not there."""
    with suppress(FileNotFoundError):
        path.unlink()
