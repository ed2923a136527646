"""Weights: which there are (assets/weights.toml), where they lie on this machine, which revision. Never fetches any.

A model is named in the settings by a name of weights.toml, by a repository on the hub (`owner/name`, or
`owner/name@revision`), or by the whole path of a file or folder; relative paths are refused. `bglora.backends.pulling`
fetches and checks.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from bglora.assets import asset
from bglora.errors import MachineError, UserError

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w.-]+)?")
COMMIT = re.compile(r"[0-9a-f]{40}")
ANY_FILES = ("*.json", "*.txt", "*.safetensors", "*.model")
"""What is taken of a repository that weights.toml doesn't know. Nothing that would have to be unpickled."""
TENSOR_FILES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
READ_FILES = (*TENSOR_FILES, ".json", ".txt", ".yaml", ".jinja", ".model")
"""What backends read of a folder."""
BESIDE = (
    "config.json",
    "config.yaml",
    "../config.yaml",
    "open_clip_config.json",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
"""What backends read beside weights that are one file, from that file's folder on."""
PULLED, BEGUN = "pulled.json", "begun.json"
"""Records of a pull that ended, and of one that is under way or was broken off."""


@dataclass(frozen=True)
class Weights:
    """A model's weights, as weights.toml tells them; the fields' meaning stands at its top.

    Attributes:
        name: by which settings and `bglora models` know it.
        role: the role of the backend that reads it.
        variable: environment variable with the path of a copy.
        torch_hub: name of a copy in torch hub's folder of checkpoints.
    """

    name: str
    role: str = ""
    about: str = ""
    repo: str = ""
    revision: str = "main"
    files: tuple[str, ...] = ANY_FILES
    folder: str = ""
    file: str = ""
    variable: str = ""
    torch_hub: str = ""
    bytes: int = 0
    license: str = ""
    license_url: str = ""
    commercial: bool | None = None
    term: str = ""
    gated: bool = False
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit and not a branch."""
        return COMMIT.fullmatch(self.revision) is not None

    @property
    def pull(self) -> str:
        """The command that fetches it."""
        return f"bglora models pull {self.name}"

    def wants(self, path: str) -> bool:
        """Whether a file of the repository, by its path there, is needed."""
        return any(fnmatch(path, pattern) for pattern in self.files)


@cache
def known() -> Mapping[str, Weights]:
    """All of weights.toml, by name."""
    tables = tomllib.loads(asset("weights.toml").read_text(encoding="utf-8"))
    return {name: _read(name, table) for name, table in tables.items()}


def _read(name: str, table: Mapping[str, Any]) -> Weights:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    del values["for"]
    return Weights(name, role=table["for"], **values)


def entry(name: str) -> Weights | None:
    """What a name or a repository on the hub stands for; None for a path, and for what is neither."""
    if name in known():
        return known()[name]
    if not HUB_NAME.fullmatch(name) or _is_path(name):
        return None
    repo, _, revision = name.partition("@")
    for one in known().values():
        if one.repo == repo and revision in ("", one.revision):
            return one
    return Weights(name, repo=repo, revision=revision or "main")


def find(name: str, *, setting: str) -> Path:
    """Where a model's weights lie: a folder, or a file where the model is one file. Fetches nothing.

    Args:
        name: as in the settings.
        setting: the key that the name is from, `inpaint.lama`, for the error.

    Raises:
        UserError: a path at which nothing is, a relative one, or a name that nobody knows.
        MachineError: the weights are not on this machine, or not whole; the cure is the command that fetches them.
    """
    where = f"{setting} = {name}"
    one = entry(name)
    if one is None:
        if _is_path(name) and not Path(name).expanduser().is_absolute():
            raise relative(name, where)
        return _given(name, where)
    found = present(one)
    if found is None:
        size = f" ({one.bytes / 1e9:.1f} GB, {one.license})" if one.bytes else ""
        raise MachineError(f"The weights {name} are not on this machine{size}.", where=where, cure=one.pull)
    return found


def present(one: Weights) -> Path | None:
    """The file or folder of weights that are there and whole; None if they are not.

    Raises:
        UserError: the environment variable for it names a path at which nothing is.
    """
    if not one.repo:
        return asset(one.name)
    given = os.environ.get(one.variable, "") if one.variable else ""
    if given:
        return _given(given, f"environment variable {one.variable} = {given}")
    if one.torch_hub and (copy := torch_hub_folder() / one.torch_hub).is_file():
        return copy
    snapshot = snapshot_folder(one)
    if snapshot is None or lacking(one, snapshot):
        return None
    return snapshot / one.file if one.file else snapshot / one.folder


def identity(name: str) -> str:
    """What a model's weights are: `sdxl-base@462165984030`. Changes with the files; cheap, for fingerprints.

    Weights that are pinned or pulled stand for their commit, files for some blocks of each. Where nothing is there
    yet, the name stands with its branch.
    """
    one = entry(name)
    if one is None:
        return f"{Path(name).name}@{_digest(Path(name).expanduser())}"
    if not one.repo or one.variable or one.torch_hub:
        found = present(one)
        if found is not None and not found.is_relative_to(repo_folder(one)):
            return f"{one.name}@{_digest(found)}"
    return f"{one.name}@{(commit(one) or one.revision)[:12]}"


# Where things lie


def hub_cache() -> Path:
    """The hub's cache, as huggingface_hub itself finds it."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def own_folder() -> Path:
    """Where bglora keeps what it knows and makes of weights: beside the hub's cache, and moved with it."""
    return hub_cache().parent / "bglora"


def shelf(one: Weights) -> Path:
    """The folder beside the hub's cache for what is known and made of these weights: the record of their pull, unpacked
    and converted files. It need not exist yet.
    """
    return own_folder() / one.name.replace("/", "--")


def conversions(name: str) -> Path:
    """The folder for what is made of the weights that a setting names: their shelf; for paths, one for them all."""
    one = entry(name)
    return own_folder() / "paths" if one is None else shelf(one)


def torch_hub_folder() -> Path:
    """torch hub's folder of checkpoints, where simple-lama-inpainting keeps its copy; found without importing torch."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def repo_folder(one: Weights) -> Path:
    """The repository's folder in the hub's cache."""
    return hub_cache() / f"models--{one.repo.replace('/', '--')}"


def commit(one: Weights) -> str:
    """The commit that these weights are at: pinned, or written down at their pull, or what the hub's cache says of the
    branch. Empty if there is none.
    """
    if one.pinned:
        return one.revision
    record = pulled(one)
    if record:
        return str(record["commit"])
    ref = repo_folder(one) / "refs" / one.revision
    return ref.read_text(encoding="utf-8").strip() if ref.is_file() else ""


def pulled(one: Weights) -> dict[str, Any]:
    """The record of a pull: `{"repo", "commit", "files": {path: {"bytes", "sha256" or "git"}}}`; empty without one.

    `sha256` is a file's digest, `git` the digest that git gives its content, both as the hub told them.
    """
    return _record(shelf(one) / PULLED)


def records(*, but: Weights) -> list[dict[str, Any]]:
    """`pulled` of all weights that were, but for one."""
    return [_record(file) for file in sorted(own_folder().glob(f"*/{PULLED}")) if file.parent != shelf(but)]


def begun(one: Weights) -> dict[str, Any]:
    """The same of a pull that is under way or was broken off: the files that it brings, not what was there before."""
    return _record(shelf(one) / BEGUN)


def _record(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def snapshot_folder(one: Weights) -> Path | None:
    """The repository as of its commit in the hub's cache; None if nothing of it is there."""
    at = commit(one)
    folder = repo_folder(one) / "snapshots" / at
    return folder if at and folder.is_dir() else None


def lacking(one: Weights, snapshot: Path) -> list[str]:
    """Files that are needed and not in this snapshot. Without a record of the pull: what can be told from the names,
    and from the lists of parts that large models come with.
    """
    recorded = pulled(one).get("files")
    if recorded:
        return [path for path in recorded if not (snapshot / path).is_file()]
    there = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()]
    return [*unmet(one, there), *sorted(set(_parts(one, snapshot, there)) - set(there))]


def unmet(one: Weights, there: Collection[str]) -> list[str]:
    """What of a model's files these paths in its repository lack."""
    missing = [path for path in one.files if "*" not in path and path not in there]
    has_tensors = any(one.wants(path) and path.endswith(TENSOR_FILES) for path in there)
    if not has_tensors and any(pattern.endswith(TENSOR_FILES) for pattern in one.files):
        missing.append("the tensors")
    return missing


def _parts(one: Weights, snapshot: Path, there: list[str]) -> Iterator[str]:
    for path in there:
        if path.endswith(".safetensors.index.json") and one.wants(path):
            parts = json.loads((snapshot / path).read_text(encoding="utf-8"))["weight_map"].values()
            yield from ((Path(path).parent / part).as_posix() for part in set(parts))


def relative(name: str, where: str) -> UserError:
    """The error for a path that would lead elsewhere from every folder."""
    return UserError(f"The path {name} of weights is not whole.", where=where, cure="Write it from the root on.")


def _is_path(name: str) -> bool:
    path = Path(name)
    return name.startswith(("~", ".")) or path.is_absolute() or path.suffix in TENSOR_FILES


def _given(name: str, where: str) -> Path:
    """The path that a setting names instead of a model."""
    path = Path(name).expanduser()
    if _is_path(name):
        if path.exists():
            return path
        raise UserError(
            "There are no weights at this path.", where=where, cure="Give the whole path of a file or folder."
        )
    near = get_close_matches(name, known(), n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}? " if near else ""
    cure = f"{hint}`bglora models` lists the names; owner/name of the hub and whole paths do as well."
    raise UserError(f"Nobody knows weights named {name!r}.", where=where, cure=cure)


def _digest(where: Path, block: int = 1 << 16) -> str:
    """Of what backends read of a file and beside it, or in a folder: names, sizes and some blocks; 16 hexadecimal
    digits.
    """
    digest = hashlib.sha256()
    outside = BESIDE if where.is_file() else ("config.yaml",)
    for file in (*([where] if where.is_file() else sorted(where.rglob("*"))), *map(where.parent.joinpath, outside)):
        if file.is_file() and (file == where or file.suffix in READ_FILES):
            size = file.stat().st_size
            digest.update(file.name.encode())
            digest.update(str(size).encode())
            with file.open("rb") as stream:
                for start in sorted({0, max(0, size // 2 - block // 2), max(0, size - block)}):
                    stream.seek(start)
                    digest.update(stream.read(block))
    return digest.hexdigest()[:16]
