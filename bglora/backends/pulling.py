"""Fetches weights from the hub into its own cache, and checks them on the way.

What a pull knows is written down beside the cache (`weights.shelf`): the commit, and each file's digest as the hub told
it. From then on these weights stay at that commit. A pull that is broken off goes on where it stopped, inside a file
as well; a file enters the cache only when its digest is right.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bglora.backends import weights
from bglora.backends.stock import PARTIAL, HubFile, Progress, alone, is_right, named, size
from bglora.backends.weights import Weights
from bglora.errors import BgloraError, Interrupted, MachineError, UserError

NETWORK = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}
"""Packages whose errors mean that the connection failed; which of them the hub's library uses, its version says."""


def pull(name: str, progress: Progress = lambda *_: None) -> Path:
    """Fetches what is missing of a model's weights and checks it. Returns where they lie.

    Weights that are there are left as they are; `verify` checks them again.

    Raises:
        UserError: nobody knows the name, or the hub has no such repository.
        MachineError: no connection, no access, too little room, or a file is not what it should be.
        Interrupted: by Ctrl-C; what was fetched is kept.
    """
    one = named(name)
    there = weights.present(one)
    if there is not None and (weights.pulled(one) or not there.is_relative_to(weights.repo_folder(one))):
        return there
    with _told(one):
        _refuse_offline(one)
        commit, files = listed(one)
        lacks = weights.unmet(one, [file.path for file in files])
        if lacks:
            raise MachineError(
                f"The repository of {one.name} lacks what is needed of it: {', '.join(lacks)}.",
                where=f"{one.repo} at {commit}",
                cure="Update bglora, or give the path of a copy of your own in the settings.",
            )
        with alone(one):
            _check_room(one, files)
            _begin(one, commit, files)
            _fetch(one, commit, files, progress)
            _record(one, commit, files)
    return weights.find(name, setting="bglora models pull")


def listed(one: Weights) -> tuple[str, list[HubFile]]:
    """The commit that a revision stands for on the hub, and the files of it that are needed."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(one.repo, revision=weights.commit(one) or one.revision, files_metadata=True)
    files = []
    for each in info.siblings or []:
        if one.wants(each.rfilename):
            large = each.lfs.sha256 if each.lfs is not None else ""
            git = "" if large else each.blob_id or ""
            files.append(HubFile(each.rfilename, each.size or 0, large, git))
    return str(info.sha), sorted(files, key=lambda file: file.path)


def missing_bytes(one: Weights, files: list[HubFile]) -> int:
    """Bytes that a pull still has to fetch."""
    blobs = weights.repo_folder(one) / "blobs"
    absent = {file.digest: file.bytes for file in files if not (blobs / file.digest).is_file()}
    begun = sum(size(blobs / f"{digest}{PARTIAL}") for digest in absent)
    return max(sum(absent.values()) - begun, 0)


class _Watched(io.FileIO):
    """A file that tells how much was written."""

    def __init__(self, path: Path, tell: Callable[[int], None]) -> None:
        super().__init__(path, "ab")
        self._tell = tell

    def write(self, chunk: Any) -> int:
        written = super().write(chunk)
        self._tell(self.tell())
        return written


def _fetch(one: Weights, commit: str, files: list[HubFile], progress: Progress) -> None:
    from huggingface_hub import hf_hub_download

    total, done = sum(file.bytes for file in files), 0
    blobs = weights.repo_folder(one) / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    for file in files:
        pinned = one.sha256.get(file.path, file.sha256)
        if pinned != file.sha256:
            raise _wrong(one, file, f"the hub's has {file.sha256 or 'none'}, and {pinned} was published")
        blob = blobs / file.digest
        progress(file.path, done, total)
        if not blob.is_file():
            _fetch_blob(one, commit, file, blob, _moved(progress, file.path, done, total))
        hf_hub_download(one.repo, file.path, revision=commit)  # finds the blob there and links it into the snapshot
        done += file.bytes
        progress(file.path, done, total)


def _moved(progress: Progress, path: str, before: int, total: int) -> Callable[[int], None]:
    return lambda there: progress(path, before + there, total)


def _fetch_blob(one: Weights, commit: str, file: HubFile, blob: Path, tell: Callable[[int], None]) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(one.repo, file.path, revision=commit)
    part = blob.with_name(f"{blob.name}{PARTIAL}")
    if size(part) > file.bytes:
        part.unlink()
    with _Watched(part, tell) as stream:
        http_get(url, stream, resume_size=stream.tell(), headers=build_hf_headers(), expected_size=file.bytes)
    if not is_right(part, file):
        part.unlink()
        raise _wrong(one, file, "what came has another")
    os.replace(part, blob)


def _wrong(one: Weights, file: HubFile, found: str) -> MachineError:
    return MachineError(
        f"Wrong checksum: {file.path} of {one.name} should have {file.digest}, but {found}. It was not kept.",
        where=f"{one.repo}/{file.path}",
        cure=f"{one.pull}; if that does not help, get it from elsewhere and give its path in the settings.",
    )


def _begin(one: Weights, commit: str, files: list[HubFile]) -> None:
    """Writes down what this pull will bring, so that a broken off one can be taken away; not what was there before."""
    blobs = weights.repo_folder(one) / "blobs"
    before = weights.begun(one)
    own = before.get("files", {}) if before.get("commit") == commit else {}
    brought = [file for file in files if file.path in own or not (blobs / file.digest).is_file()]
    _write(one, weights.BEGUN, commit, brought)


def _record(one: Weights, commit: str, files: list[HubFile]) -> None:
    _write(one, weights.PULLED, commit, files)
    (weights.shelf(one) / weights.BEGUN).unlink()


def _write(one: Weights, name: str, commit: str, files: list[HubFile]) -> None:
    shelf = weights.shelf(one)
    shelf.mkdir(parents=True, exist_ok=True)
    record = {"repo": one.repo, "commit": commit, "files": {file.path: file.known() for file in files}}
    scratch = shelf / f"{name}.new"
    scratch.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(scratch, shelf / name)


def _check_room(one: Weights, files: list[HubFile]) -> None:
    cache = weights.hub_cache()
    there = next(path for path in (cache, *cache.parents) if path.exists())
    needed, free = missing_bytes(one, files), shutil.disk_usage(there).free
    if needed > free:
        raise MachineError(
            f"{one.name} takes {needed / 1e9:.1f} GB; {free / 1e9:.1f} GB are free.",
            where=str(cache),
            cure="Make room, or set HF_HUB_CACHE to a folder on a larger disk.",
        )


def _refuse_offline(one: Weights) -> None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise MachineError(
            f"{one.name} is not on this machine, and HF_HUB_OFFLINE forbids to fetch it.",
            where=str(weights.repo_folder(one)),
            cure=f"HF_HUB_OFFLINE=0 {one.pull}; or copy the cache from another machine.",
        )


# What went wrong


@contextmanager
def _told(one: Weights) -> Iterator[None]:
    """Turns the hub library's errors into ours, and keeps it from talking. Its messages are not shown: they are long,
    and what they quote of a request is nobody's business.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, logging

    quiet, level = are_progress_bars_disabled(), logging.get_verbosity()
    disable_progress_bars()
    logging.set_verbosity_error()
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"Stopped while fetching {one.name}; what is there is kept.", where=one.repo, cure=f"Go on with: {one.pull}"
        ) from error
    except BgloraError:
        raise
    except Exception as error:
        told = _error(one, error)
        if told is None:
            raise
        raise told from error
    finally:
        logging.set_verbosity(level)
        if not quiet:
            enable_progress_bars()


def _error(one: Weights, error: Exception) -> BgloraError | None:
    """What an error of the hub's library means; None for one that nobody foresaw."""
    from huggingface_hub import constants
    from huggingface_hub.utils import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"{constants.ENDPOINT}/{one.repo}"
    token = "set HF_TOKEN to a token that may read it"
    code = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else 0
    if isinstance(error, GatedRepoError) or (code in (401, 403) and one.gated):
        cure = f"Accept the terms on that page, {token}, then: {one.pull}"
        return MachineError(f"{one.name} is given only to those who accepted its terms.", where=page, cure=cure)
    if isinstance(error, RepositoryNotFoundError) or code in (401, 403):
        cure = f"Check the name; if the repository is private, {token}, then: {one.pull}"
        return UserError(f"The hub shows no repository {one.repo}.", where=page, cure=cure)
    if isinstance(error, RevisionNotFoundError):
        what = f"The repository {one.repo} has no revision {one.revision}."
        return UserError(what, where=page, cure="Update bglora, or write owner/name@revision with one that is there.")
    if code:
        return MachineError(f"The hub answers {code}.", where=page, cure=f"Try again later: {one.pull}")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        cure = "Make room, or set HF_HUB_CACHE to a folder on a larger disk."
        return MachineError(f"The disk is full while fetching {one.name}.", where=str(weights.hub_cache()), cure=cure)
    broken = isinstance(error, LocalEntryNotFoundError | ConnectionError | TimeoutError) or "Consistency" in str(error)
    if broken or type(error).__module__.partition(".")[0] in NETWORK:
        what = f"No connection to the hub, or it broke off, while fetching {one.name}. What came is kept."
        return MachineError(what, where=page, cure=f"Check the network or the proxy, then go on with: {one.pull}")
    return None
