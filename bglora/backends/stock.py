"""Weights that are on this machine: checked from end to end, and taken away again."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from bglora.backends import TABLES, weights
from bglora.backends.weights import Weights
from bglora.errors import MachineError, UserError

Progress = Callable[[str, int, int], None]
"""Called with a file's path in the repository, bytes that are done and bytes of all files together."""

PARTIAL = ".bglora-incomplete"
"""What the name of a file in the hub's cache ends in that was broken off."""


@dataclass(frozen=True)
class HubFile:
    """A file of a repository on the hub.

    Attributes:
        path: in the repository.
        bytes: its size.
        sha256: its digest; empty for small files that git itself keeps.
        git: the digest that git gives its content; empty where there is a SHA-256.
    """

    path: str
    bytes: int
    sha256: str = ""
    git: str = ""

    @property
    def digest(self) -> str:
        """What the hub's cache calls it."""
        return self.sha256 or self.git

    def known(self) -> dict[str, Any]:
        """For the record: without the path and what is empty."""
        return {key: value for key, value in asdict(self).items() if value and key != "path"}


def named(name: str) -> Weights:
    """What a name on the command line stands for. Raises `UserError` for a path and for what nobody knows."""
    one = weights.entry(name)
    if one is None:
        path = weights.find(name, setting="bglora models")  # tells of unknown names and empty paths
        raise UserError(
            "This is a path; there is nothing to fetch or to take away.",
            where=str(path),
            cure="`bglora models` lists the names; the setting takes the path as it is.",
        )
    return one


def size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


@dataclass(frozen=True)
class Verified:
    """How weights on this machine are.

    Attributes:
        name: of the weights.
        state: `ok`; `unknown` if nothing says how they should be; `wrong`; `absent`.
        found: a sentence.
        mend: the command that mends it; empty if nothing has to be.
    """

    name: str
    state: Literal["ok", "unknown", "wrong", "absent"]
    found: str
    mend: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def verify(name: str, progress: Progress = lambda *_: None) -> Verified:
    """Reads weights that are here from end to end and compares their digests with what is known of them."""
    one = named(name)
    there = weights.present(one)
    if there is None:
        return Verified(one.name, "absent", "not on this machine, or not whole", one.pull)
    if not one.repo:
        return Verified(one.name, "ok", f"came with the package, {there}")
    folder, files = _expected(one, there)
    unknown = [file.path for file in files if not file.digest]
    if unknown:
        return Verified(one.name, "unknown", f"nothing is known of {unknown[0]} in {folder}", one.pull)
    total = sum(file.bytes for file in files)
    done = 0
    for file in files:
        progress(file.path, done, total)
        if not is_right(folder / file.path, file):
            mend = f"bglora models remove {one.name} && {one.pull}"
            return Verified(one.name, "wrong", f"{folder / file.path} is not what it should be", mend)
        done += file.bytes
    return Verified(one.name, "ok", f"{len(files)} files are what they should be, {there}")


def _expected(one: Weights, there: Path) -> tuple[Path, list[HubFile]]:
    """The files of weights that are here, with the best that is known of each: pinned, pulled, or the cache's name."""
    if not there.is_relative_to(weights.repo_folder(one)):
        return there.parent, [HubFile(there.name, size(there), one.sha256.get(there.name, ""))]
    folder = weights.snapshot_folder(one)
    assert folder is not None, "weights in the hub's cache lie in a snapshot"
    recorded: Mapping[str, Mapping[str, Any]] = weights.pulled(one).get("files") or {
        path.relative_to(folder).as_posix(): _as_cached(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and one.wants(path.relative_to(folder).as_posix())
    }
    files = []
    for path, known in recorded.items():
        pinned = one.sha256.get(path, "")
        files.append(HubFile(path, known["bytes"], pinned or known.get("sha256", ""), known.get("git", "")))
    return folder, files


def _as_cached(path: Path) -> dict[str, Any]:
    """What the hub's cache says of a file by its name for it; nothing where the cache keeps plain copies."""
    name = path.resolve().name if path.is_symlink() else ""
    kind = {64: "sha256", 40: "git"}.get(len(name))
    return {"bytes": size(path)} | ({kind: name} if kind else {})


def is_right(path: Path, file: HubFile) -> bool:
    """Whether a file's content is what it should be."""
    if size(path) != file.bytes:
        return False
    if file.sha256:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
    content = path.read_bytes()  # git keeps small files only
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == file.git


def remove(name: str, *, dry: bool = False) -> int:
    """Deletes weights that were pulled, or whose pull was broken off, with what was made of them. Returns the bytes
    that this frees.

    Of the hub's cache only the files that the record of the pull names go, and none that other pulled weights need.

    Raises:
        UserError: nothing of it is here, or it is a copy that was not pulled.
        MachineError: another process is fetching from its repository.
    """
    one = named(name)
    if not one.repo:
        raise UserError(f"{one.name} belongs to the package.", where=str(weights.present(one)), cure="Leave it there.")
    with alone(one):
        shelf, repo = weights.shelf(one), weights.repo_folder(one)
        record = weights.pulled(one) or weights.begun(one)
        if not record and not _files(shelf):
            _refuse_absent(one)
        pointers, begun = _recorded(one, record)
        doomed = {path.resolve() for path in pointers} | begun
        freed = sum(size(path) for path in doomed | _files(shelf))
        if not dry:
            _delete(pointers, doomed, repo)
            shutil.rmtree(shelf, ignore_errors=True)
    return freed


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def _recorded(one: Weights, record: Mapping[str, Any]) -> tuple[set[Path], set[Path]]:
    """What the record of a pull names and no other pulled weights need: files in the snapshot, and whole or broken off
    ones that are in no snapshot yet.
    """
    repo, files = weights.repo_folder(one), dict(record.get("files", {}))
    for other in weights.records(but=one):
        if (other["repo"], other["commit"]) == (one.repo, record.get("commit")):
            for path in other["files"]:
                files.pop(path, None)
    snapshot = repo / "snapshots" / str(record.get("commit"))
    pointers = {snapshot / path for path in files}
    digests = [known.get("sha256") or known.get("git", "") for known in files.values()]
    blobs = {repo / "blobs" / f"{digest}{end}" for digest in digests if digest for end in ("", PARTIAL)}
    return {path for path in pointers if path.is_file()}, {path for path in blobs if path.is_file()}


@contextmanager
def alone(one: Weights) -> Iterator[None]:
    """Keeps other processes from the repository of these weights: two pulls at a time would write into one file, and
    several weights share the files of one repository.

    Raises:
        MachineError: another process has it.
    """
    from filelock import FileLock, Timeout

    file = weights.own_folder() / "locks" / f"{one.repo.replace('/', '--')}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(file, timeout=1):
            yield
    except Timeout as error:
        raise MachineError(
            f"Another process is fetching or deleting files of {one.repo}.", where=str(file), cure="Wait for it to end."
        ) from error


def _refuse_absent(one: Weights) -> None:
    there = weights.present(one)
    if there is None:
        raise UserError(f"{one.name} is not on this machine.", where=str(weights.repo_folder(one)), cure=one.pull)
    raise UserError(
        f"{one.name} was not pulled by bglora: the copy is another program's.",
        where=str(there),
        cure="Delete it yourself if nothing else needs it.",
    )


def _delete(pointers: set[Path], doomed: set[Path], repo: Path) -> None:
    for path in pointers:
        path.unlink()
    kept = {path.resolve() for path in (repo / "snapshots").rglob("*") if path.is_symlink()}
    for path in doomed - kept:
        path.unlink(missing_ok=True)
    if not _files(repo / "snapshots") and not _files(repo / "blobs"):
        shutil.rmtree(repo, ignore_errors=True)


# Listing


def listing() -> list[dict[str, Any]]:
    """All weights that this version knows, as JSON values.

    `{"name", "for", "about", "bytes", "license", "license_url", "commercial", "term", "gated", "repo", "revision",
    "here", "path"}`: `bytes` are those on this machine where they are here, else those of the download, about; `path`
    is empty where they are not here.
    """
    return [described(one) for one in weights.known().values()]


def described(one: Weights) -> dict[str, Any]:
    """One of `listing`."""
    there = weights.present(one)
    values: dict[str, Any] = {"name": one.name, "for": TABLES[one.role] if one.role else "", "about": one.about}
    values |= {"bytes": one.bytes if there is None else _taken(there), "license": one.license}
    values |= {"license_url": one.license_url, "commercial": one.commercial, "term": one.term, "gated": one.gated}
    values |= {"repo": one.repo, "revision": weights.commit(one) or one.revision}
    return values | {"here": there is not None, "path": str(there or "")}


def _taken(there: Path) -> int:
    return size(there) if there.is_file() else sum(size(path) for path in there.rglob("*"))
